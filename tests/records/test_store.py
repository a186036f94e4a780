"""The store keeps what was finished, whatever happens, and says clearly what is wrong with a folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.identity.run_id import run_id
from harness.records import seal
from harness.records.cells import check_done
from harness.records.store import SCHEMA, CellStore, read_cells
from tests.records import sealed

LABELS = {"model": "m", "method": "power", "task": "t"}
CONFIG = {"identity": {"method": {"name": "power", "blocks": 8}, "seed": 0}, "labels": LABELS, "batch_size": 4}
CELL = run_id(CONFIG["identity"])


def row(i: int, text: str = "answer") -> dict:
    return {"id": f"e{i}", "cluster": "", "meta": {}, "text": text, "metrics": {"accuracy": 1.0}, "flags": []}


def store(root: Path, **identity) -> CellStore:
    return CellStore(root, CELL, {**CONFIG, "identity": {**CONFIG["identity"], **identity}})


def finished_cell(root: Path) -> Path:
    with store(root) as cell:
        cell.append([row(0), row(1)])
        cell.finish({"n": 2})
    return cell.path


def test_a_cell_goes_from_empty_to_done(tmp_path):
    cell = store(tmp_path)
    assert not cell.done and cell.finished() == {}
    cell.append([row(0), row(1, "ünï\u2028\ud800 \x85\r\n")])
    cell.append([row(2)])
    assert list(store(tmp_path).finished()) == ["e0", "e1", "e2"]
    cell.finish({"n": 3, "values": {"a": {"value": float("nan")}}})
    again = store(tmp_path)
    assert again.done and again.finished()["e1"]["text"] == "ünï\u2028\ud800 \x85\r\n"
    record = read_cells(tmp_path)[0]
    assert record.done and record.config["identity"] == CONFIG["identity"] and len(record.samples()) == 3
    assert record.metrics == {"n": 3, "values": {"a": {"value": None}}} and record.nonfinite == ("values.a.value",)
    session = record.provenance["sessions"][0]
    assert session["finished"] >= session["started"] and session["versions"]["numpy"]


def test_no_samples_at_all_can_be_finished(tmp_path):
    cell = store(tmp_path)
    cell.finish({"n": 0})
    assert store(tmp_path).done and read_cells(tmp_path)[0].samples() == []


def test_the_same_run_writes_the_same_bytes(tmp_path):
    a, b = finished_cell(tmp_path / "a"), finished_cell(tmp_path / "b")
    for name in sealed.FILES:
        assert sealed.content(a / name) == sealed.content(b / name)


def test_a_torn_last_line_is_cut_off_and_computed_again(tmp_path):
    cell = store(tmp_path)
    cell.append([row(0), row(1)])
    cell.close()
    whole = cell.samples_file.read_bytes()
    for size in sorted({*range(0, len(whole), 9), len(whole) - 1, len(whole)}):
        cell.samples_file.write_bytes(whole[:size])
        with store(tmp_path) as torn:
            kept = torn.finished()
            assert len(kept) == whole[:size].count(b"\n")
            torn.append([row(i) for i in range(2) if f"e{i}" not in kept])
        assert cell.samples_file.read_bytes() == whole


@pytest.mark.parametrize(
    "garbage", [b"garbage\n", b"[]\n", b'{"no": "id"}\n', b'{"id": 3}\n', b"\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"]
)
def test_garbage_is_an_error_with_its_line(tmp_path, garbage):
    cell = store(tmp_path)
    cell.append([row(0), row(1)])
    lines = cell.samples_file.read_bytes().splitlines(keepends=True)
    cell.samples_file.write_bytes(lines[0] + garbage + lines[1])
    with pytest.raises(UserError, match=r"samples\.jsonl, line 2: .*run the same command again"):
        store(tmp_path).finished()


def test_an_id_twice_is_an_error_with_both_lines(tmp_path):
    cell = store(tmp_path)
    cell.append([row(0), row(1)])
    cell.samples_file.write_bytes(cell.samples_file.read_bytes() * 2)
    with pytest.raises(UserError, match="line 3: the id 'e0' already stands in line 1"):
        store(tmp_path).finished()
    with pytest.raises(UserError, match="line 3"):
        read_cells(tmp_path)[0].samples()


def test_storing_an_id_twice_or_a_score_that_is_no_number_is_refused_and_leaves_nothing(tmp_path):
    cell = store(tmp_path)
    cell.append([row(0)])
    before = cell.samples_file.read_bytes()
    for rows in ([row(0)], [row(1), row(1)], [{**row(1), "id": 1}]):
        with pytest.raises(ValueError, match="stored before"):
            cell.append(rows)
    with pytest.raises(ValueError, match=r"e1.*metrics\.accuracy is not finite"):
        cell.append([{**row(1), "metrics": {"accuracy": float("nan")}}])
    assert cell.samples_file.read_bytes() == before
    cell.append([row(1)])
    assert list(cell.finished()) == ["e0", "e1"]


def test_another_identity_is_an_error_that_names_the_keys(tmp_path):
    finished_cell(tmp_path)
    with pytest.raises(UserError, match=r"method\.blocks, seed differ"):
        store(tmp_path, method={"name": "power", "blocks": 9}, seed=1)


def test_what_is_not_identity_may_change(tmp_path):
    path = finished_cell(tmp_path)
    cell = CellStore(tmp_path, CELL, {**CONFIG, "batch_size": 1, "labels": {**LABELS, "model": "renamed"}})
    assert cell.done and json.loads((path / "config.json").read_text())["labels"]["model"] == "renamed"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("samples.jsonl", b"", "was changed after the cell was finished: it holds 0 complete lines, and 2"),
        ("metrics.json", b'{"n": 9}', "metrics.json was changed"),
        ("metrics.json", b'{"n"', "metrics.json was changed"),
        ("metrics.json", None, "metrics.json was changed after the cell was finished: it is missing"),
        ("metrics.json", b"[" * 100_000, "metrics.json was changed"),
        ("DONE", b"", "DONE is damaged"),
        ("DONE", b'{"a":' * 100_000, "DONE is damaged"),
        ("DONE", b'{"schema": 99}', "layout version 99"),
    ],
)
def test_a_finished_folder_that_was_edited_is_an_error(tmp_path, name, content, says):
    file = finished_cell(tmp_path) / name
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(says)):
        _ = store(tmp_path).done
    assert says in read_cells(tmp_path)[0].problem and not read_cells(tmp_path)[0].done


def test_a_changed_letter_in_the_samples_is_found(tmp_path):
    file = finished_cell(tmp_path) / "samples.jsonl"
    file.write_bytes(file.read_bytes().replace(b"answer", b"ANSWER", 1))
    with pytest.raises(UserError, match=r"samples\.jsonl was changed"):
        _ = store(tmp_path).done


def test_checking_a_finished_cell_holds_a_piece_of_the_samples_at_a_time(tmp_path):
    with store(tmp_path) as cell:
        cell.append([row(i, "x" * 1_000_000) for i in range(16)])
        cell.finish({"n": 16})
    tracemalloc.start()
    try:
        assert check_done(cell.path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_finishing_holds_a_line_of_the_samples_at_a_time_and_resuming_no_second_copy(tmp_path):
    with store(tmp_path) as cell:
        cell.append([row(i, "x" * 1_000_000) for i in range(16)])
    tracemalloc.start()
    try:
        with store(tmp_path) as cell:
            cell.finish({"n": 16})
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
        tracemalloc.reset_peak()
        rows = store(tmp_path).finished()
        assert len(rows) == 16 and tracemalloc.get_traced_memory()[1] < 22 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", b"{", "config.json is damaged"),
        ("config.json", b"[1]", "holds no JSON object"),
        ("config.json", b"[" * 100_000, "config.json is damaged"),
        ("config.json", b'{"schema": 2}', "layout version 2; this heed reads version 1"),
        ("config.json", None, "config.json is missing although there are samples"),
    ],
)
def test_a_damaged_config_is_an_error(tmp_path, name, content, says):
    file = finished_cell(tmp_path) / name
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(UserError, match=says):
        store(tmp_path)
    assert read_cells(tmp_path)[0].problem


def test_one_damaged_cell_does_not_hide_the_others(tmp_path):
    path = finished_cell(tmp_path)
    for name in ("empty", "other"):
        (path.parent / name).mkdir()
    (path.parent / "other" / "config.json").write_text("{")
    (path.parent / "stray file").write_text("")
    found = [(c.run_id, bool(c.problem)) for c in read_cells(tmp_path)]
    assert found == [(CELL, False), ("empty", True), ("other", True)]
    assert read_cells(tmp_path / "nowhere") == []


def test_a_failed_cell_keeps_its_samples_and_is_tried_again(tmp_path):
    with store(tmp_path) as cell:
        cell.append([row(0)])
        cell.fail("NotEngaged", "nothing changed")
    record = read_cells(tmp_path)[0]
    assert record.metrics["failure"]["message"] == "nothing changed" and not record.done
    with store(tmp_path) as cell:
        assert list(cell.finished()) == ["e0"]
        cell.append([row(1)])
        cell.finish({"n": 2})
    assert store(tmp_path).done


def test_metrics_of_a_finished_cell_can_be_replaced_only_by_finish(tmp_path):
    finished_cell(tmp_path)
    cell = store(tmp_path)
    with pytest.raises(ValueError, match="replaced by `finish`"):
        cell.write_json("metrics.json", {})
    with pytest.raises(ValueError, match="plain name"):
        cell.write_json("../x.json", {})
    cell.write_json("efficiency.json", {"simulated": False})
    cell.finish({"n": 2, "more": 1})
    assert store(tmp_path).done and read_cells(tmp_path)[0].metrics["more"] == 1
    assert len(read_cells(tmp_path)[0].provenance["sessions"]) == 1


def test_a_finished_cell_can_be_opened_again_for_what_it_lacks(tmp_path):
    finished_cell(tmp_path)
    with store(tmp_path) as cell:
        cell.reopen()
        assert not cell.done and list(cell.finished()) == ["e0", "e1"]
        cell.append([row(2)])
        cell.finish({"n": 3})
    assert store(tmp_path).done and len(read_cells(tmp_path)[0].samples()) == 3


def test_a_finished_cell_takes_no_more_samples(tmp_path):
    finished_cell(tmp_path)
    with store(tmp_path) as cell, pytest.raises(ValueError, match="is finished"):
        cell.append([row(7)])
    assert store(tmp_path).done and store(tmp_path).figures.is_dir()


def test_two_writers_at_once_are_refused(tmp_path):
    first, second, third = store(tmp_path), store(tmp_path), store(tmp_path)
    third.finished()
    first.append([row(0)])
    with pytest.raises(UserError, match="another process is working on the cell"):
        second.append([row(0)])
    first.close()
    with pytest.raises(UserError, match="another process added samples"):
        third.append([row(0)])
    second.append([row(1)])
    assert list(second.finished()) == ["e0", "e1"]


def test_a_run_id_is_a_plain_name(tmp_path):
    for name in ("", "../up", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="run id"):
            CellStore(tmp_path, name, CONFIG)


def test_a_full_disk_keeps_what_was_finished(tmp_path, monkeypatch):
    cell = store(tmp_path)
    cell.append([row(0)])
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(UserError, match=r"disk full .*What was finished stays; free space"):
        cell.append([row(1), row(2)])
    monkeypatch.undo()
    assert list(cell.finished()) == ["e0"]
    cell.append([row(1), row(2)])
    cell.finish({"n": 3})
    assert len(read_cells(tmp_path)[0].samples()) == 3 and store(tmp_path).done


LIMITED = """
import resource
from pathlib import Path
from tests.records.test_store import row, store
from harness.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
cell = store(Path({root!r}))
try:
    for i in range(100):
        cell.append([row(i)])
except UserError as err:
    print(len(cell.finished()), err)
try:
    cell.write_json("efficiency.json", {{"x": "y" * {limit}}})
except UserError as err:
    print(err)
"""


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=child_env(), check=False)


def child_env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_a_limit_of_the_system_on_file_size_is_a_full_disk(tmp_path):
    out = run_script(LIMITED.format(root=str(tmp_path), limit=2000))
    lines = out.stdout.splitlines()
    assert len(lines) == 2 and all("disk full" in line for line in lines), out
    n = int(lines[0].split()[0])
    with store(tmp_path) as cell:
        assert len(cell.finished()) == n > 5 and not list(cell.path.glob(".*part"))
        cell.append([row(i) for i in range(n, 20)])
        cell.finish({"n": 20})


def test_a_folder_that_cannot_be_written_is_a_clear_sentence(tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"cannot write .*What was finished stays"):
        store(tmp_path)


WORKER = """
from pathlib import Path
from tests.records.test_store import row, store
cell = store(Path({root!r}))
have = cell.finished()
todo = [i for i in range(300) if f"e{{i}}" not in have]
for start in range(0, len(todo), 4):
    cell.append([row(i, "x" * 5000) for i in todo[start:start + 4]])
cell.finish({{"n": 300}})
"""


def test_kill_9_at_any_moment_and_the_same_command_again_gives_the_same_records(tmp_path):
    def command(root: Path) -> list[str]:
        return [sys.executable, "-c", WORKER.format(root=str(root))]

    subprocess.run(command(tmp_path / "calm"), env=child_env(), check=True)
    kills = 0
    for wait in (0.0, 0.005, 0.02):
        samples = tmp_path / "rough" / "runs" / CELL / "samples.jsonl"
        size = samples.stat().st_size if samples.exists() else 0
        process = subprocess.Popen(command(tmp_path / "rough"), env=child_env())
        while process.poll() is None and (not samples.exists() or samples.stat().st_size <= size):
            time.sleep(0.001)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    subprocess.run(command(tmp_path / "rough"), env=child_env(), check=True)
    calm, rough = (tmp_path / name / "runs" / CELL for name in ("calm", "rough"))
    for name in sealed.FILES:
        assert sealed.content(calm / name) == sealed.content(rough / name)
    assert kills > 0 and store(tmp_path / "rough").done
    assert len(read_cells(tmp_path / "rough")[0].provenance["sessions"]) >= kills


def test_temporary_files_of_killed_processes_go_when_the_cell_ends(tmp_path):
    with store(tmp_path) as cell:
        for name in ("config.json", "cost.json", "samples.jsonl"):
            (cell.path / f".{name}.123-0a1b2c3d.part").write_text("cut")
        cell.append([row(0)])
        cell.finish({"n": 1})
    assert sorted(file.name for file in cell.path.iterdir()) == [
        "DONE", "config.json", "metrics.json", "provenance.json", "samples.jsonl"
    ]  # fmt: skip


def test_who_opens_a_cell_while_another_makes_and_ends_it_breaks_no_seal(tmp_path, monkeypatch):
    path, real, taken = tmp_path / "runs" / CELL, os.fsync, []

    def fsync(fd):
        if not taken and (found := list(path.glob(".config.json.*.part"))):
            taken.extend(found)
            finished_cell(tmp_path)
            assert not found[0].exists()
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    late = CellStore(tmp_path, CELL, {**CONFIG, "labels": {**LABELS, "model": "late"}})
    assert taken and late.done and not list(late.path.glob(".*.part"))
    assert read_cells(tmp_path)[0].done and read_cells(tmp_path)[0].labels["model"] == "late"  # sealed again


def test_labels_of_a_cell_at_work_change_when_it_is_held_and_are_sealed(tmp_path):
    first = store(tmp_path)
    assert first.claim()
    with CellStore(tmp_path, CELL, {**CONFIG, "labels": {**LABELS, "model": "late"}}) as late:
        assert read_cells(tmp_path)[0].labels["model"] == "m"
        first.finish({"n": 0})
        assert late.done and store(tmp_path).done
    late = CellStore(tmp_path, CELL, {**CONFIG, "labels": {**LABELS, "model": "late"}})
    assert late.done and read_cells(tmp_path)[0].labels["model"] == "late" and not list(late.path.glob(".*"))


def test_a_cell_is_made_where_the_file_system_has_no_links(tmp_path, monkeypatch):
    def link(*args):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", link)
    assert finished_cell(tmp_path) and store(tmp_path).done and not list((tmp_path / "runs" / CELL).glob(".*.part"))


def test_killed_between_any_two_steps_of_finish_the_cell_can_be_finished(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    real = os.replace
    for step in range(6):
        root, left = tmp_path / str(step), [step]

        def replace(a, b, left=left):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            real(a, b)

        cell = store(root)
        cell.append([row(0)])
        monkeypatch.setattr(os, "replace", replace)
        try:
            cell.finish({"n": 1})
            cell.finish({"n": 1, "again": True})
        except Killed:
            pass
        monkeypatch.setattr(os, "replace", real)
        cell.close()
        with store(root) as again:
            if not again.done:
                again.finish({"n": 1, "again": True})
        assert store(root).done and list(again.finished()) == ["e0"]


def test_schema_is_stored(tmp_path):
    path = finished_cell(tmp_path)
    assert json.loads((path / "config.json").read_text())["schema"] == SCHEMA
    assert json.loads((path / "DONE").read_text())["schema"] == seal.SCHEMA
