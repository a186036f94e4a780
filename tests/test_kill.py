"""`kill -9` at random moments, ten times, then the same command once more: the records of an uninterrupted run."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.models.small import save
from tests.test_run import records

pytestmark = pytest.mark.slow


def command(folder, results):
    code = "import sys; from harness.cli import main; sys.exit(main())"
    return [
        sys.executable, "-c", code, "run", f"model={folder}", "method=[dense,power,quest,snapkv]", "task=[passkey,recall]",
        "task.passkey.lengths=[384,512]", "task.recall.lengths=[768]", "efficiency=off", "batch_tokens=1200", f"results={results}",
    ]  # fmt: skip


def test_ten_kills_end_with_the_records_of_an_uninterrupted_run(tmp_path):
    folder = save(tmp_path / "tiny-llama", max_position_embeddings=4096)
    start = time.perf_counter()
    subprocess.run(command(folder, tmp_path / "whole"), check=True, capture_output=True)
    seconds = time.perf_counter() - start
    rng, kills, partial = random.Random(5), 0, 0
    while kills < 10:
        process = subprocess.Popen(
            command(folder, tmp_path / "cut"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.35, 0.75) * min(seconds, 12))
        os.kill(process.pid, signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        partial += any(
            p.stat().st_size
            for p in (tmp_path / "cut").glob("runs/*/samples.jsonl")
            if not (p.parent / "DONE").exists()
        )
        if process.returncode == 0:
            break  # it had finished before the signal
    assert kills >= 3 and partial >= 1
    subprocess.run(command(folder, tmp_path / "cut"), check=True, capture_output=True)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
