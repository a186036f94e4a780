"""`kill -9` at random moments, ten times, then the same command once more: the records of an uninterrupted run."""

import random
import signal
import subprocess
import sys
import time

import pytest

from tests.models.small import save
from tests.running.test_run import records

pytestmark = pytest.mark.slow


def command(folder, results, *more):
    code = "import sys; from harness.cli import main; sys.exit(main())"
    return [
        sys.executable, "-c", code, "run", f"model={folder}", "method=[dense,power,quest,snapkv]", "task=[passkey,recall]",
        "task.passkey.lengths=[384,512]", "task.recall.lengths=[768]", "efficiency=off", "batch_tokens=1200", f"results={results}",
        *more,
    ]  # fmt: skip


def lines(results):
    return sum(p.read_bytes().count(b"\n") for p in results.glob("runs/*/samples*.jsonl"))


def kill_after(folder, results, wanted, extra, shards=()):
    """Start the run (or all its shards), wait until `wanted` more samples are on disk and `extra` seconds have passed, and
    kill it.
    """
    goal, quiet = lines(results) + wanted, {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen(command(folder, results, *more), **quiet) for more in ([s] for s in shards or ("share=true",))
    ]
    while all(p.poll() is None for p in processes) and lines(results) < goal:
        time.sleep(0.01)
    time.sleep(extra)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    return [process.wait() for process in processes]


def test_ten_kills_end_with_the_records_of_an_uninterrupted_run(tmp_path):
    folder = save(tmp_path / "tiny-llama", max_position_embeddings=4096)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(folder, whole), check=True, capture_output=True)
    rng, unfinished = random.Random(5), 0
    for _ in range(10):
        assert kill_after(folder, cut, rng.randint(1, 12), rng.uniform(0, 0.2)) == [-signal.SIGKILL]
        unfinished += any(
            not (p.parent / "DONE").exists() for p in cut.glob("runs/*/samples.jsonl") if p.stat().st_size
        )
    assert unfinished >= 5  # most kills struck in the middle of a cell
    subprocess.run(command(folder, cut), check=True, capture_output=True)
    assert records(cut) == records(whole)


def test_shards_that_are_killed_together_end_with_the_records_of_an_uninterrupted_run(tmp_path):
    folder = save(tmp_path / "tiny-llama", max_position_embeddings=4096)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(folder, whole), check=True, capture_output=True)
    rng, kills = random.Random(7), 0
    for n in (2, 3, 2):
        shards = [f"shard={i}/{n}" for i in range(n)]
        kills += kill_after(folder, cut, rng.randint(1, 12), rng.uniform(0, 0.5), shards).count(-signal.SIGKILL)
    assert kills >= 5
    halves = [subprocess.Popen(command(folder, cut, f"shard={i}/2"), stdout=subprocess.DEVNULL) for i in range(2)]
    assert [p.wait() for p in halves] == [0, 0]
    subprocess.run(command(folder, cut), check=True, capture_output=True)
    assert records(cut) == records(whole)
    assert not list(cut.glob("runs/*/*of*")) and not list(cut.glob("runs/*/.*"))
