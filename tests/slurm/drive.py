"""Starting sweeps as a user does, in a process of their own, and doing something to them at a chosen moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from tests.running.test_run import records
from tests.slurm.cluster import Cluster

ROOT = Path(__file__).parents[2]
SECONDS = 400  # that a sweep may take on a busy machine
MATRIX = (
    "method=[power,quest]", "task=[passkey,recall]", "task.passkey.lengths=[512]", "task.passkey.trials=12", "task.recall.lengths=[512]",
    "task.recall.facts=[2]", "task.recall.samples=60", "batch_tokens=600", "efficiency=off", "tracking=disabled",
)  # fmt: skip


@dataclass
class Run:
    """`heed ...` that was started."""

    process: subprocess.Popen
    file: IO[bytes]

    @property
    def output(self) -> str:
        """What it printed so far, errors included."""
        self.file.seek(0)
        return self.file.read().decode()

    @property
    def returncode(self) -> int | None:
        return self.process.poll()


def start(*arguments: str, env: dict[str, str] | None = None) -> Run:
    """`heed *arguments`."""
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from harness.cli import main; sys.exit(main())"
    file = TemporaryFile()  # noqa: SIM115 (it lives as long as the run)
    command = [sys.executable, "-c", code, *arguments]
    settings = (env or dict(os.environ)) | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return Run(subprocess.Popen(command, cwd=ROOT, env=settings, stdout=file, stderr=file), file)


def once(root: Path, *overrides: str) -> Run:
    return start("run", *overrides, f"results={root}")


def sweep(cluster: Cluster, root: Path, *overrides: str) -> Run:
    return start("run", "-m", "launcher=slurm", *overrides, f"results={root}", env=cluster.env)


def finish(run: Run, cluster: Cluster | None = None) -> Run:
    """Wait for it; jobs that were put into the queue again need not wait."""
    reach(run, lambda: False, cluster)
    return run


def reach(run: Run, met: Callable[[], bool], cluster: Cluster | None = None) -> bool:
    """Wait until something is met: True; or until the run is over: False."""
    end = time.monotonic() + SECONDS
    while run.process.poll() is None:
        if met():
            return True
        if time.monotonic() > end:
            run.process.kill()
            raise AssertionError(f"nothing happened within {SECONDS} s\n{run.output}")
        if cluster:
            cluster.hurry()
        time.sleep(0.2)
    return met()


def samples(root: Path) -> int:
    """Lines of samples on disk, those of shards included."""
    return sum(p.read_bytes().count(b"\n") for p in root.glob("runs/*/samples*.jsonl"))


def middle_of(root: Path, run: Run, cluster: Cluster, n: int = 12, jobs: int = 1) -> dict[str, str]:
    """Jobs that run (with their nodes) once `n` samples are on disk and at least `jobs` jobs run."""
    found: dict[str, str] = {}

    def met() -> bool:
        if samples(root) < n:
            return False
        found.clear()
        found.update(cluster.running())
        return len(found) >= jobs

    assert reach(run, met, cluster), run.output
    return found


def same(root: Path, single: Path, together: bool = True) -> bool:
    """Whether two folders hold the same records, no sample twice, none missing; says where they differ.

    `together`: methods that share a prefill in one folder do so in the other; then every byte is the same. Else the note
    with whom a sample shared (`shared`) is left out of the comparison, and with it the digest of the file that it stands in.
    """
    ours, theirs = (comparable(records(r), together) for r in (root, single))
    assert ours.keys() == theirs.keys(), f"only in one: {sorted(ours.keys() ^ theirs.keys())}"
    differing = [name for name in ours if ours[name] != theirs[name]]
    assert not differing, differing
    left = [str(p) for p in root.glob("runs/*/samples.*of*.jsonl")]
    assert not left, f"files of shards are left: {left}"
    for file in root.glob("runs/*/samples.jsonl"):
        ids = Counter(json.loads(line)["id"] for line in file.read_bytes().splitlines())
        assert ids and max(ids.values()) == 1, file
    return True


def comparable(found: dict[str, bytes], together: bool) -> dict[str, Any]:
    """The content of the files, as far as it can be the same."""
    if together:
        return found
    out: dict[str, Any] = {}
    for name, data in found.items():
        if name.endswith("samples.jsonl"):
            rows = [json.loads(line) for line in data.splitlines()]
            out[name] = [{k: v for k, v in row.items() if k != "shared"} for row in rows]
        else:
            out[name] = json.loads(data)
            out[name].get("files", {}).pop("samples.jsonl", None)
    return out
