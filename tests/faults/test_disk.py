"""A real disk that is full, or that cannot be written any more. It is a small file system, mounted for the test."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.errors import UserError
from harness.records.cells import read_cell
from tests.faults import runs
from tests.records.test_shards import ORDER, compute, one_process, same, shard
from tests.records.test_store import CELL, child_env, finished_cell, row, store

PAGE = 4096  # bytes that a file takes at least


@pytest.mark.parametrize("leave", [8_000, 30_000, 50_000])
def test_a_full_disk_is_one_sentence_and_afterwards_the_run_ends_as_if_nothing_had_been(tmp_path, disk, leave):
    def go(root):
        with store(root) as cell:
            have = cell.finished()
            for i in range(0, 40, 2):
                if f"e{i}" not in have:
                    cell.append([row(i, "x" * 1500), row(i + 1, "y" * 1500)])
            cell.finish({"n": 40})

    go(tmp_path / "calm")
    disk.fill(leave)
    with pytest.raises(UserError, match=r"disk full while writing .* free space and run the same command again"):
        go(disk.place)
    cell = disk.place / "runs" / CELL
    kept = read_cell(cell).samples() if (cell / "config.json").exists() else []
    assert len(kept) % 2 == 0 and not list(cell.glob(".*.part"))  # whole batches, and no temporary file in the way
    if leave > 8_000:
        assert kept and (cell / "samples.jsonl").read_bytes().endswith(b"\n")
    disk.empty()
    go(disk.place)
    assert runs.records(disk.place) == runs.records(tmp_path / "calm")


def test_a_disk_that_fills_while_shards_are_joined_loses_no_sample(tmp_path, disk):
    calm = one_process(tmp_path / "calm")
    for i in range(2):
        with shard(disk.place, i, 2) as cell:
            compute(cell, [[3 * k + i] for k in range(3)])
    disk.fill(0)
    with shard(disk.place, 0, 2) as cell, pytest.raises(UserError, match="disk full"):
        cell.merge(["e0", "e1", "e3", "e4", "e6", "e7"])
    disk.empty()
    with shard(disk.place, 0, 3) as cell:
        assert len(cell.finished()) == 6
        compute(cell)
        assert cell.merge(ORDER)
        cell.finish({"n": len(ORDER)})
    assert same(calm, cell.path)


@pytest.mark.slow
def test_a_run_on_a_full_disk_says_so_and_continues_when_there_is_space(model, calm, disk):
    needed = sum(-(-file.stat().st_size // PAGE) * PAGE for file in calm.rglob("*") if file.is_file())
    said = []
    for leave in (needed // 6, needed // 3):
        disk.fill(leave)
        done = runs.run(model, disk.place)
        disk.empty()
        assert "Traceback" not in done.stdout + done.stderr
        said.append((done.returncode, "disk full" in done.stdout + done.stderr or "disk is full" in done.stderr))
    assert said == [(2, True)] * 2, said
    assert runs.run(model, disk.place).returncode == 0
    assert runs.records(disk.place) == runs.records(calm)


WRITER = """
import sys, time
from pathlib import Path
from tests.records.test_store import row, store
from harness.errors import UserError
cell = store(Path(sys.argv[1]))
have = cell.finished()
try:
    for i in range(100):
        if f"e{i}" not in have:
            cell.append([row(i)])
            time.sleep(0.02)
    cell.finish({"n": 100})
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_device_that_fails_in_mid_run_keeps_what_was_finished(tmp_path, device):
    words = [sys.executable, "-c", WRITER]
    subprocess.run([*words, tmp_path / "calm"], env=child_env(), check=True)
    process = subprocess.Popen([*words, device.place], stdout=subprocess.PIPE, text=True, env=child_env())
    samples = device.place / "runs" / CELL / "samples.jsonl"
    runs.wait_until(lambda: samples.exists() and samples.stat().st_size > 1000)
    device.fail()
    said, _ = process.communicate()
    assert "cannot write" in said and "mounted read-only?" in said and "What was finished stays" in said
    device.repair()
    assert len(read_cell(samples.parent).samples()) >= 5
    assert subprocess.run([*words, device.place], env=child_env(), capture_output=True, check=True).stdout == b""
    assert runs.records(device.place) == runs.records(tmp_path / "calm")


def test_what_is_finished_can_be_read_from_a_read_only_folder_and_nothing_else_is_tried(disk):
    path = finished_cell(disk.place)
    disk.read_only(True)
    try:
        with store(disk.place) as cell:
            assert cell.done and list(cell.finished()) == ["e0", "e1"]
        assert read_cell(path).done and len(read_cell(path).samples()) == 2
        with pytest.raises(UserError, match=r"cannot write .*read-only"):
            store(disk.place / "other")
        with store(disk.place) as cell, pytest.raises(UserError, match=r"cannot write .*read-only"):
            cell.finish({"n": 2})
    finally:
        disk.read_only(False)
    assert store(disk.place).done


def test_a_run_into_a_read_only_folder_says_so_before_it_loads_a_model(model, disk):
    disk.read_only(True)
    try:
        done = runs.run(model, disk.place)
    finally:
        disk.read_only(False)
    assert done.returncode == 2 and "cannot be written to" in done.stderr and "results=DIR" in done.stderr, done
    assert not list(disk.place.iterdir())
