"""Processes that are ended in mid-run, and processes that want the same thing at the same time."""

from __future__ import annotations

import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.disk.locks import is_held
from harness.records.store import Busy, CellStore
from tests.faults import runs


def in_its_second_batch(log: Path) -> bool:
    """The proof is one request, the first batch another; the third waits at the gate."""
    return log.exists() and log.read_text().count("begin") >= 3


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_ended_in_the_middle_of_a_batch_the_same_command_continues(model, calm, tmp_path, how):
    log, root = tmp_path / "log", tmp_path / "results"
    process = runs.start(model, root, gate=str(tmp_path / "closed"), log=str(log))
    runs.wait_until(lambda: in_its_second_batch(log))
    process.send_signal(how)
    said, _ = process.communicate()
    assert process.returncode in (-how, 128 + how) and "Traceback" not in said, said
    cell = runs.cell_of(root, "scaled")
    assert not cell.done and 0 < len(cell.samples()) < 10 and not is_held(cell.path)
    assert runs.run(model, root).returncode == 0
    assert runs.records(root) == runs.records(calm) and not runs.left_behind(root / "runs")


@pytest.mark.slow
def test_of_two_jobs_on_one_cell_one_wins_and_the_other_leaves_with_a_message(model, calm, tmp_path):
    log, root, gate = tmp_path / "log", tmp_path / "results", tmp_path / "gate"
    first = runs.start(model, root, gate=str(gate), log=str(log))
    runs.wait_until(lambda: in_its_second_batch(log))
    assert is_held(runs.cell_of(root, "scaled").path)
    second = runs.run(model, root)
    gate.touch()
    said, _ = first.communicate()
    assert first.returncode == 0, said
    assert second.returncode == 2 and "another process is working on the cell" in " ".join(second.stdout.split()), (
        second
    )
    assert "Traceback" not in second.stdout + second.stderr
    assert runs.records(root) == runs.records(calm) and not runs.left_behind(root / "runs")


@pytest.mark.slow
def test_two_jobs_started_at_the_same_moment_never_mix_their_files(model, calm, tmp_path):
    both = [runs.start(model, tmp_path) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    codes = [process.returncode for process in both]
    assert set(codes) <= {0, 2} and not any("Traceback" in text for text in said), said
    assert runs.run(model, tmp_path).returncode == 0
    assert runs.records(tmp_path) == runs.records(calm) and not runs.left_behind(tmp_path / "runs")


def test_the_loser_of_a_cell_does_not_mark_it_as_failed(tmp_path):
    config = {"identity": {"seed": 0}}
    with CellStore(tmp_path, "cell", config) as winner, CellStore(tmp_path, "cell", config) as loser:
        assert winner.claim()
        with pytest.raises(Busy):
            loser.claim()
        assert not loser.fail("Busy", "another process is working on the cell")
        assert not (winner.path / "metrics.json").exists()
        winner.finish({"n": 0})
        assert not loser.fail("Busy", "too late") and winner.done


@pytest.mark.slow
def test_shards_that_are_ended_and_started_again_end_with_the_records_of_one_process(model, calm, tmp_path):
    root, logs = tmp_path / "results", [tmp_path / f"log{i}" for i in range(2)]
    told = {"gate": str(tmp_path / "closed")}
    halves = [runs.start(model, root, runs.SCALED, f"shard={i}/2", **told, log=str(logs[i])) for i in range(2)]
    runs.wait_until(lambda: in_its_second_batch(logs[0]))
    for process in halves:
        process.kill()
        process.communicate()
    assert not runs.cell_of(root, "scaled").done and list(root.glob("runs/*/samples.0of2.jsonl"))
    thirds = [runs.start(model, root, runs.SCALED, f"shard={i}/3") for i in range(3)]
    said = [process.communicate()[0] for process in thirds]
    assert [process.returncode for process in thirds] == [0, 0, 0], said
    assert runs.run(model, root).returncode == 0  # fills in what a shard could not know, as a sweep does at its end
    assert runs.answers(root) == runs.answers(calm) and not runs.left_behind(root / "runs")
    assert runs.records(root) == runs.records(calm)


# -- the same data, the same lesson --------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_jobs_that_prepare_the_same_data_at_once_leave_one_whole_file(model, calm, tmp_path):
    log, root = tmp_path / "log", tmp_path / "results"
    told = {"build": 0.3, "log": str(log)}
    both = [runs.start(model, root, *which, **told) for which in (["baseline=true", "method=[dense]"], _alone())]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert log.read_text().count("build") == 2  # they did meet: both found no file
    (made,), (whole,) = (sorted((folder / "data").iterdir()) for folder in (root, calm))
    assert made.name == whole.name and made.read_bytes() == whole.read_bytes()
    assert runs.answers(root) == runs.answers(calm)


def _alone() -> list[str]:
    return [runs.SCALED, "baseline=false"]


@pytest.mark.slow
def test_two_jobs_that_need_the_same_lesson_at_once_learn_it_once(model, tmp_path):
    log, root = tmp_path / "log", tmp_path / "results"
    told = {"learn": 2.0, "log": str(log)}
    tasks = [[runs.LEARNED, "baseline=false", task] for task in (runs.SIX, runs.SEVEN)]
    calm = [runs.run(model, tmp_path / "calm", *task) for task in tasks]
    assert [done.returncode for done in calm] == [0, 0], calm
    both = [runs.start(model, root, *task, **told) for task in tasks]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert log.read_text().count("learn") == 1
    (made,), (whole,) = (list((folder / "learned").iterdir()) for folder in (root, tmp_path / "calm"))
    assert made.name == whole.name and all(
        (made / name).read_bytes() == (whole / name).read_bytes()
        for name in ("config.json", "learned.safetensors", "DONE")
    )
    assert runs.records(root) == runs.records(tmp_path / "calm") and not runs.left_behind(root / "learned")


def test_subprocesses_are_real():
    """The commands above are `heed` itself."""
    done = subprocess.run([*runs.HEED, "--version"], capture_output=True, text=True, env=runs.environment(), check=True)
    assert done.stdout.startswith("heed ")


def test_two_machines_with_one_process_number_write_the_same_file_at_once(tmp_path, monkeypatch):
    from harness.running import examples
    from tests.faults.toys import Toy
    from tests.toy import ByteTokens

    monkeypatch.setattr("os.getpid", lambda: 1)  # as in two containers
    meeting = threading.Barrier(2)

    class Slow(Toy):
        def examples(self, tokens):
            yield from super().examples(tokens)
            meeting.wait(10)  # both have written all, and neither has renamed its file

    def build():
        examples.prepared(Slow(n=4), ByteTokens(), tmp_path)

    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(build) for _ in range(2)]:
            one.result()
    assert len(examples.prepared(Slow(n=4), ByteTokens(), tmp_path)) == 4
    assert not list(tmp_path.glob(".*"))
