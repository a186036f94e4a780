"""Weights & Biases, written from the records: one run per cell under the cell's run id, so that a rerun updates it.

Nothing here can fail, delay for ever or lose a run. The tracker lives in a process of its own (`worker`) that is ended
after `timeout` seconds per cell; whatever happens there comes back as one line of text. What could not be written is in
the records, and `heed sync` writes it later. Offline runs land in `<root>/wandb` (upload them with `wandb sync`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records.cells import CellRecord, read_cells
from harness.tracking.base import recall, remember, resolve_mode
from harness.tracking.payload import digest, payload

__all__ = ["Report", "Status", "resolve_mode", "sync", "track"]


@dataclass(frozen=True)
class Status:
    """How writing one cell ended: `disabled`, `offline` or `online` (written), `kept` (unchanged), or `failed`."""

    run_id: str
    state: str
    message: str = ""

    @property
    def ok(self) -> bool:
        return self.state != "failed"

    def __str__(self) -> str:
        return self.message or self.state


@dataclass(frozen=True)
class Report:
    """What `sync` did, one status per cell in the order of run ids; as text, a line for people and one per failure."""

    statuses: tuple[Status, ...]

    @property
    def ok(self) -> bool:
        return all(s.ok for s in self.statuses)

    def __str__(self) -> str:
        counts = Counter(s.state for s in self.statuses)
        parts = ", ".join(f"{counts[state]} {state}" for state in sorted(counts)) or "nothing finished to write"
        return "\n".join([f"Weights & Biases: {parts}", *(f"{s.run_id}: {s}" for s in self.statuses if not s.ok)])


def track(
    cell: CellRecord,
    root: Path,
    mode: str = "auto",
    project: str = "heed",
    group: str | None = None,
    timeout: float = 60.0,
) -> Status:
    """Write one finished cell of the results folder `root`. Never raises for what the tracker or the disk does."""
    return _write([cell], Path(root), mode, project, group, timeout, force=True)[0]


def sync(
    root: Path,
    run_ids: Iterable[str] | None = None,
    mode: str = "auto",
    project: str = "heed",
    group: str | None = None,
    timeout: float = 60.0,
    force: bool = False,
) -> Report:
    """Write finished cells again from the records; `run_ids` None: all of them. A damaged cell is a failure with its reason.

    A cell that did not change since it was written in this mode to this project is `kept`, unless `force`. `group`
    None: the group it was written with. `UserError` for an id that has no folder.
    """
    cells = read_cells(root)
    wanted = None if run_ids is None else set(run_ids)
    unknown = (wanted or set()) - {cell.run_id for cell in cells}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise UserError(f"no results for {names}: the folders in {Path(root) / 'runs'} are the run ids.")
    chosen = [c for c in cells if (c.done or c.problem if wanted is None else c.run_id in wanted)]
    return Report(tuple(_write(chosen, Path(root), mode, project, group, timeout, force)))


@dataclass(frozen=True)
class Job:
    """A cell to be written, what to write, and what is remembered about it."""

    cell: CellRecord
    content: dict[str, Any]
    memory: dict[str, Any]


def _write(
    cells: Sequence[CellRecord], root: Path, mode: str, project: str, group: str | None, timeout: float, force: bool
) -> list[Status]:
    mode = resolve_mode(mode)
    if mode == "disabled":
        return [Status(cell.run_id, "disabled") for cell in cells]
    prepared = [_prepare(cell, f"{mode}/{project}", group, force) for cell in cells]
    jobs = [job for job in prepared if isinstance(job, Job)]
    written = _run(jobs, root, mode, project, timeout) if jobs else {}
    return [written[p.cell.run_id] if isinstance(p, Job) else p for p in prepared]


def _prepare(cell: CellRecord, place: str, group: str | None, force: bool) -> Job | Status:
    if not cell.done:
        return _failed(cell, cell.problem or "the cell is not finished")
    try:
        content, memory = payload(cell), recall(cell)
        if not force and memory["written"].get(place) == digest(content):
            return Status(cell.run_id, "kept")
        memory["group"] = group or memory["group"]
        remember(cell, memory)
    except Exception as err:  # tracking never fails a run: the reason is told instead
        return _failed(cell, err)
    return Job(cell, content, memory)


def _run(jobs: list[Job], root: Path, mode: str, project: str, timeout: float) -> dict[str, Status]:
    """Let the worker write `jobs`, and remember what it wrote."""
    cells = [{**job.content, "group": job.memory["group"]} for job in jobs]
    order = {"mode": mode, "project": project, "dir": str(root.resolve()), "timeout": timeout, "cells": cells}
    try:
        answers, end = _worker(order, timeout * len(jobs))
    except Exception as err:
        answers, end = {}, str(err) or type(err).__name__
    status = {}
    for job in jobs:
        answer = answers.get(job.cell.run_id, end)
        status[job.cell.run_id] = _remembered(job, mode, project) if answer == "ok" else _failed(job.cell, answer)
    return status


def _remembered(job: Job, mode: str, project: str) -> Status:
    job.memory["written"][f"{mode}/{project}"] = digest(job.content)
    with contextlib.suppress(UserError):  # then `sync` writes it once more
        remember(job.cell, job.memory)
    return Status(job.cell.run_id, mode)


def _failed(cell: CellRecord, why: object) -> Status:
    line = " ".join(str(why).split()) or type(why).__name__
    return Status(cell.run_id, "failed", f"not written to Weights & Biases ({line[:300]}). The records are complete: "
                  "`heed sync` writes them later.")  # fmt: skip


def _worker(order: dict[str, Any], timeout: float) -> tuple[dict[str, str], str]:
    """Answers per run id, and what to say about the other cells. Files, not pipes: a helper could hold a pipe open."""
    with tempfile.TemporaryDirectory(prefix="heed-tracking-") as name:
        folder = Path(name)
        (folder / "order.json").write_text(json.dumps(order))
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "harness.tracking.worker", name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(), start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(timeout)
                end = f"wandb ended without an answer (exit code {code}){_last_line(folder / 'log')}"
            except subprocess.TimeoutExpired:
                end = f"wandb did not answer within {timeout:g} s"
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        answers = folder / "answers.jsonl"
        lines = answers.read_text().splitlines() if answers.exists() else []
        return dict(json.loads(line) for line in lines if line.endswith("]")), end


def _environment() -> dict[str, str]:
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (os.environ.get("PYTHONPATH"), source) if p)
    return {**os.environ, "PYTHONPATH": path, "WANDB_SILENT": "true"}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f": {lines[-1][:200]}" if lines else ""
