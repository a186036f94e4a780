"""Several processes compute one cell: their files, who may write, and the join that leaves one process's bytes."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from harness.disk.locks import Lock
from harness.errors import UserError
from harness.records import shards
from harness.records.cells import read_cell
from harness.records.store import Busy, CellStore, is_held
from tests.records import sealed
from tests.records.test_store import CELL, CONFIG, child_env, row, store

BATCHES = [[0, 3], [1], [2, 5, 4], [6], [7, 8]]
ORDER = [f"e{i}" for batch in BATCHES for i in batch]


def shard(root: Path, i: int, n: int) -> CellStore:
    return CellStore(root, CELL, CONFIG, shard=(i, n))


def batches_of(i: int, n: int) -> list[list[int]]:
    return [batch for number, batch in enumerate(BATCHES) if number % n == i]


def compute(cell: CellStore, batches=BATCHES) -> None:
    """What a run does with its part: only what is missing of a batch is computed."""
    assert cell.claim()
    have = cell.finished()
    for batch in batches:
        if missing := [row(i) for i in batch if f"e{i}" not in have]:
            cell.append(missing)


def one_process(root: Path) -> Path:
    with store(root) as cell:
        compute(cell)
        cell.finish({"n": len(ORDER)})
    return cell.path


def same(a: Path, b: Path) -> bool:
    return all(sealed.content(a / name) == sealed.content(b / name) for name in sealed.FILES)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_shards_end_with_the_bytes_of_one_process(tmp_path, n):
    calm = one_process(tmp_path / "calm")
    cells = [shard(tmp_path / "many", i, n) for i in range(n)]
    for cell in cells:
        compute(cell, batches_of(cell.shard[0], n))
    outcomes = [cell.merge(ORDER) for cell in cells]
    assert outcomes == [False] * (n - 1) + [True]  # the last to leave has the cell to itself
    assert list(cells[-1].finished()) == ORDER
    cells[-1].finish({"n": len(ORDER)})
    assert same(calm, cells[-1].path) and store(tmp_path / "many").done
    assert names(cells[-1].path) == names(calm)  # nothing is left of the shards
    sessions = read_cell(cells[-1].path).provenance["sessions"]
    assert len(sessions) == min(n, len(BATCHES) + 1)  # who computed, and who finished
    assert all(s["finished"] for s in sessions)


def test_each_shard_writes_its_own_file_and_sees_all(tmp_path):
    a, b = shard(tmp_path, 0, 2), shard(tmp_path, 1, 2)
    a.append([row(0), row(3)])
    b.append([row(1)])
    assert list(a.finished()) == list(b.finished()) == list(store(tmp_path).finished()) == ["e0", "e3", "e1"]
    assert names(a.path) >= {"samples.0of2.jsonl", "samples.1of2.jsonl"} and not a.samples_file.exists()
    record = read_cell(a.path)
    assert [r["id"] for r in record.samples()] == ["e0", "e3", "e1"] and not record.done
    assert len(record.provenance["sessions"]) == 2


def test_a_shard_that_leaves_early_leaves_the_cell_to_the_others(tmp_path):
    a, b = shard(tmp_path, 0, 2), shard(tmp_path, 1, 2)
    compute(a, batches_of(0, 2))
    assert not a.merge(ORDER)
    compute(b, batches_of(1, 2))
    assert b.merge(ORDER) and not (tmp_path / "runs" / CELL / "samples.0of2.jsonl").exists()
    b.finish({"n": 9})
    assert not a.merge(ORDER) and a.done  # too late, and nothing is damaged


@pytest.mark.parametrize("then", [(0, 3), (1, 3), None])
def test_another_division_or_none_goes_on_with_what_is_there(tmp_path, then):
    calm = one_process(tmp_path / "calm")
    root = tmp_path / "many"
    with store(root) as cell:
        cell.append([row(0), row(3)])
    with shard(root, 1, 2) as cell:
        compute(cell, BATCHES[1:2])
    with shard(root, 1, 4) as cell:
        cell.append([row(2)])  # half a batch: its process was killed
    with CellStore(root, CELL, CONFIG, shard=then) as cell:
        assert cell.is_split
        compute(cell)
        assert cell.merge(ORDER)
        cell.finish({"n": len(ORDER)})
    assert same(calm, cell.path) and names(cell.path) == names(calm)


def test_finishing_with_files_of_shards_around_is_a_bug_of_the_caller(tmp_path):
    shard(tmp_path, 0, 2).append([row(0)])
    with pytest.raises(ValueError, match="merge"):
        store(tmp_path).finish({})


def test_a_torn_line_is_ignored_in_foreign_files_and_cut_in_ones_own(tmp_path):
    with shard(tmp_path, 0, 2) as cell:
        cell.append([row(0), row(3)])
    file = cell.path / "samples.0of2.jsonl"
    whole = file.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2 + 3, 5):
        file.write_bytes(whole[:size])
        stands = whole[:size].count(b"\n")
        with shard(tmp_path, 1, 2) as other:
            assert len(other.finished()) == stands and file.stat().st_size == size
        with shard(tmp_path, 0, 2) as own:
            assert len(own.finished()) == stands
            own.append([row(i) for i in (0, 3) if f"e{i}" not in own.finished()])
        assert file.read_bytes() == whole


def test_garbage_in_a_shard_is_an_error_with_its_line(tmp_path):
    with shard(tmp_path, 0, 2) as cell:
        cell.append([row(0)])
    with (cell.path / "samples.0of2.jsonl").open("ab") as file:
        file.write(b"garbage\n")
    for other in (shard(tmp_path, 1, 2), store(tmp_path)):
        with pytest.raises(UserError, match=r"samples\.0of2\.jsonl, line 2"):
            other.finished()


def test_a_sample_that_nobody_asked_for_is_an_edited_folder(tmp_path):
    with shard(tmp_path, 0, 1) as cell:
        cell.append([row(0), row(99)])
        with pytest.raises(UserError, match="'e99'"):
            cell.merge(["e0"])
    assert len(store(tmp_path).finished()) == 2


def test_joining_holds_one_line_at_a_time(tmp_path):
    for i in range(2):
        with shard(tmp_path, i, 2) as cell:
            cell.append([row(k, "x" * 1_000_000) for k in range(i, 16, 2)])
    tracemalloc.start()
    try:
        assert shards.join(cell.path, [f"e{k}" for k in range(16)])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert cell.samples_file.stat().st_size > 16_000_000


# -- who may write ---------------------------------------------------------------------------------------------------


def test_one_process_for_a_shard_and_either_shards_or_one_process_for_a_cell(tmp_path):
    first, second = shard(tmp_path, 0, 2), shard(tmp_path, 1, 2)
    first.append([row(0)])
    second.append([row(1)])
    for late in (shard(tmp_path, 0, 2), shard(tmp_path, 1, 2), store(tmp_path)):
        with pytest.raises(Busy, match="another process is working on the cell"):
            late.append([row(2)])
        assert not late.fail("UserError", "the loser's mistake")  # what the winner does is not marked
    assert not (first.path / "metrics.json").exists()
    first.close()
    second.close()
    with store(tmp_path) as alone:
        alone.append([row(2)])
        with pytest.raises(Busy):
            shard(tmp_path, 2, 3).append([row(5)])
    assert list(store(tmp_path).finished()) == ["e2", "e0", "e1"]


def test_claiming_takes_the_cell_before_any_work_and_says_if_it_is_finished(tmp_path):
    cell = store(tmp_path)
    assert cell.claim() and cell.claim()
    with pytest.raises(Busy):
        store(tmp_path).claim()
    cell.append([row(0)])
    cell.finish({"n": 1})
    for late in (store(tmp_path), shard(tmp_path, 1, 2)):
        assert not late.claim() and not late.fail("UserError", "late") and not late.merge(["e0"])
        assert not is_held(late.path) and not list(late.path.glob(".*"))


def test_who_was_too_slow_is_told_in_one_sentence(tmp_path):
    slow = store(tmp_path)
    assert not slow.done
    with store(tmp_path) as quick:
        quick.finish({"n": 0})
    with pytest.raises(Busy, match="another process finished"):
        slow.append([row(0)])
    assert store(tmp_path).done and not slow.fail("UserError", "late") and store(tmp_path).done


def test_the_probe_sees_whole_cells_and_shards_and_disturbs_nobody(tmp_path):
    cell, other = store(tmp_path), shard(tmp_path / "other", 3, 5)
    assert not is_held(cell.path) and not is_held(tmp_path / "nowhere")
    for one in (cell, other):
        one.append([row(0)])
        assert is_held(one.path)
    other.close()
    assert not is_held(other.path)
    stop = threading.Event()
    prober = threading.Thread(target=lambda: [is_held(other.path) for _ in iter(stop.is_set, True)])
    prober.start()
    try:
        for i in range(1, 40):  # taken and released under permanent probing
            with shard(tmp_path / "other", 3, 5) as one:
                one.append([row(i)])
            with store(tmp_path / "other") as one:
                assert one.claim()
    finally:
        stop.set()
        prober.join()


class Slow(Lock):
    """Opens the lock file of `first`, who ends and removes it before this one asks for the lock."""

    def __init__(self, first: Lock) -> None:
        super().__init__(first.file)
        self.first = first

    def _open(self) -> int:
        fd = super()._open()
        self.first.release(remove=True)
        return fd


def test_a_lock_that_its_owner_removed_is_not_mistaken_for_the_new_one(tmp_path):
    first, late = Lock(tmp_path / ".lock"), Lock(tmp_path / ".lock")
    assert first.acquire()
    slow = Slow(first)
    assert slow.acquire() and not late.acquire() and (tmp_path / ".lock").exists()
    slow.release()
    assert late.acquire()


# -- samples that raised ---------------------------------------------------------------------------------------------


def error(i: int, message: str = "no") -> dict[str, str]:
    return {"id": f"e{i}", "kind": "RuntimeError", "message": message, "traceback": "Traceback ...\n  line\n"}


def test_errors_are_recorded_counted_and_forgotten_when_repaired(tmp_path):
    with store(tmp_path) as cell:
        cell.append([row(0)])
        cell.record_errors([error(1), error(2)])
        cell.record_errors([error(1, "again")])
        assert [(e["id"], e["message"]) for e in cell.errors()] == [("e1", "again"), ("e2", "no")]
        cell.fail("UserError", "2 samples failed")
    record = read_cell(cell.path)
    assert record.n_errors == 2 and record.errors()[0]["traceback"].startswith("Traceback")
    with store(tmp_path) as cell:
        cell.append([row(1)])
        assert read_cell(cell.path).n_errors == 1  # what is stored now did not fail
        cell.clear_errors()
        assert cell.errors() == []
        cell.append([row(2)])
        cell.finish({"n": 3})
    assert "errors.jsonl" not in names(cell.path) and read_cell(cell.path).n_errors == 0


def test_errors_that_are_allowed_stay_with_the_finished_cell(tmp_path):
    a, b = shard(tmp_path, 0, 2), shard(tmp_path, 1, 2)
    a.append([row(0)])
    a.record_errors([error(3)])
    b.append([row(1)])
    b.record_errors([error(2), error(4)])
    b.append([row(4)])  # one was repaired
    assert {e["id"] for e in b.errors()} == {"e2", "e3"} and read_cell(a.path).n_errors == 2
    assert not a.merge(["e0", "e1"])  # e4 is there by now: the shard that computed it knows
    assert b.merge(["e0", "e1", "e4"])
    b.finish({"n": 3})
    assert read_cell(b.path).n_errors == 2 and not list(b.path.glob("*of*")) and store(tmp_path).done


def test_a_torn_error_is_cut_off_and_the_next_stands_on_its_own_line(tmp_path):
    with store(tmp_path) as cell:
        cell.record_errors([error(1), error(2)])
    file = cell.path / "errors.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    assert read_cell(cell.path).n_errors == 1
    with store(tmp_path) as cell:
        cell.record_errors([error(3)])
        assert [e["id"] for e in cell.errors()] == ["e1", "e3"]


# -- killed at any moment --------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def test_killed_between_any_two_steps_of_the_join_it_can_be_done_again(tmp_path, monkeypatch):
    calm = one_process(tmp_path / "calm")
    real = {name: getattr(os, name) for name in ("replace", "unlink", "fsync")}
    for step in itertools.count():
        root, left = tmp_path / str(step), [step]
        for i in range(2):
            with shard(root, i, 2) as cell:
                compute(cell, batches_of(i, 2))

        def dies(name, left=left):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] == -1:
                    raise Killed
                return real[name](*args, **kwargs)

            return call

        for name in real:
            monkeypatch.setattr(os, name, dies(name))
        cell = shard(root, 0, 2)
        try:
            assert cell.merge(ORDER)
            cell.finish({"n": len(ORDER)})
            done = True
        except Killed:
            done = False
        monkeypatch.undo()
        cell.close()
        with CellStore(root, CELL, CONFIG, shard=(0, 3) if step % 2 else None) as again:
            if not again.done:
                assert (list(again.finished()) and not again.is_split) or again.merge(ORDER)
                again.finish({"n": len(ORDER)})
        assert same(calm, again.path), step
        assert not list(again.path.glob("samples.*of*")) and list(store(root).finished()) == ORDER
        if done:
            break
    assert step > 15


def test_files_of_shards_beside_a_finished_cell_mean_nothing(tmp_path):
    path = one_process(tmp_path)
    before = (path / "samples.jsonl").read_bytes()
    (path / "samples.0of2.jsonl").write_bytes(b'{"id":"e0","text":"other"}\ngarbage\n')
    cell = shard(tmp_path, 0, 2)
    assert cell.done and list(cell.finished()) == ORDER and len(read_cell(path).samples()) == len(ORDER)
    assert not cell.merge(ORDER)
    with store(tmp_path) as cell:
        cell.finish({"n": len(ORDER), "more": 1})
    assert names(path).isdisjoint({"samples.0of2.jsonl"}) and (path / "samples.jsonl").read_bytes() == before


WORKER = """
import sys
from pathlib import Path
from tests.records.test_shards import CELL, CONFIG, CellStore
from tests.records import sealed
from tests.records.test_store import row
i, n, total = map(int, sys.argv[1:])
order = [f"e{{k}}" for k in range(total)]
with CellStore(Path({root!r}), CELL, CONFIG, shard=(i, n) if n else None) as cell:
    if cell.done:
        sys.exit(0)
    have = cell.finished()
    for k in range(0, total, 4):
        missing = [x for x in range(k, min(k + 4, total)) if f"e{{x}}" not in have]
        if k // 4 % max(n, 1) == i and missing:
            cell.append([row(x, "x" * 3000) for x in missing])
    if not cell.is_split or cell.merge(order):
        cell.finish({{"n": len(cell.finished())}})
"""


def command(root: Path, i: int, n: int, total: int) -> list[str]:
    return [sys.executable, "-c", WORKER.format(root=str(root)), str(i), str(n), str(total)]


@pytest.mark.slow
def test_shards_that_are_killed_and_started_again_in_other_numbers_lose_nothing(tmp_path):
    total, rng, kills = 400, random.Random(3), 0
    subprocess.run(command(tmp_path / "calm", 0, 0, total), env=child_env(), check=True)
    rough = tmp_path / "rough"
    for n in (3, 2, 4):
        started = [subprocess.Popen(command(rough, i, n, total), env=child_env()) for i in range(n)]
        while all(p.poll() is None for p in started) and not _grew(rough, n):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        for process in started:
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    started = [subprocess.Popen(command(rough, i, 3, total), env=child_env()) for i in range(3)]
    assert [p.wait() for p in started] == [0, 0, 0]
    calm, cell = (tmp_path / name / "runs" / CELL for name in ("calm", "rough"))
    assert kills >= 3 and same(calm, cell) and not list(cell.glob("*of*")) and not list(cell.glob(".*"))


def _grew(root: Path, n: int) -> bool:
    return any(file.stat().st_size for file in root.glob(f"runs/{CELL}/samples.*of{n}.jsonl"))
