"""What is damaged is damaged for every command, is told with its reason, and crashes none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.board_rows import rows_for_table
from harness.cli import main
from harness.records import seal
from harness.records.cells import read_cell, read_cells
from harness.report.status import read_status
from tests.records.cells import add_cell, sample_rows

DENSE, POWER = sample_rows(0.9), sample_rows(0.5, seed=1)
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two good cells; the tests spoil the one of `power`."""
    folder = tmp_path / "results"
    for method, rows in (("dense", DENSE), ("power", POWER)):
        add_cell(folder, method, rows, None if method == "dense" else DENSE)
    return folder


def power(root: Path) -> Path:
    return next(cell.path for cell in read_cells(root) if cell.labels["method"] == "power")


def edit(file: Path, change: Any) -> None:
    """Replace values in a JSON file: {"dotted.key": value}."""
    stored = json.loads(file.read_text())
    for dotted, value in change.items():
        *parents, last = dotted.split(".")
        node = stored
        for key in parents:
            node = node[key]
        node[last] = value
    file.write_text(json.dumps(stored))


def told(root: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[int, str]]:
    """What every command that reads records says: exit code and text."""
    out = root.parent / "out"
    commands = {
        "status": ["status", "--results", str(root)],
        "report": ["report", str(root), "--out", str(out)],
        "compare": ["compare", "dense", "power", "--results", str(root)],
        "gate": ["gate", "--baseline", str(root), "--candidate", str(root)],
        "export": ["export", "--format", "lm-eval", "--results", str(root), "--out", str(out / "lm")],
    }
    found = {}
    capsys.readouterr()
    for name, words in commands.items():
        code = main(words)
        said = capsys.readouterr()
        found[name] = (code, " ".join((said.out + said.err).split()))
        assert "Traceback" not in found[name][1], name
    return found


def is_damaged_everywhere(root: Path, capsys: pytest.CaptureFixture[str], why: str) -> None:
    (bad,) = [cell for cell in read_cells(root) if cell.problem]
    assert why in bad.problem and not bad.done
    said = told(root, capsys)
    assert said["status"][1].startswith("2 cells: 1 finished, 1 damaged") and why in said["status"][1]
    assert "1 damaged" in said["report"][1] and why in said["report"][1]
    assert said["compare"][0] == 2 and said["gate"][0] == 2
    assert "damaged" in said["gate"][1] and why in said["compare"][1]
    assert said["export"][0] == 0 and "damaged" in said["export"][1]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"labels": None}),
        ("config.json", {"labels.method": 7}),
        ("config.json", {"task_facts.metrics": "x"}),
        ("config.json", {"identity.method": "x"}),
        ("metrics.json", {"failure": "x"}),
        ("metrics.json", {"values.accuracy.value": "x"}),
        ("metrics.json", {"groups": [{"by": 3}]}),
        ("metrics.json", {"n": 10**400}),
        ("efficiency.json", {"ttft_ms.median": "x"}),
        ("efficiency.json", {"hardware": "x"}),
        ("provenance.json", {"sessions": "x"}),
    ],
)
def test_a_value_of_another_kind_is_damage_even_under_a_seal_that_fits(root, capsys, name, change):
    edit(power(root) / name, change)
    seal.write(power_of(root))
    is_damaged_everywhere(root, capsys, name)


def power_of(root: Path) -> Path:
    """The spoiled folder, whatever is left of its labels."""
    return next(c.path for c in read_cells(root) if c.labels.get("method") != "dense")


@pytest.mark.parametrize("name", ["DONE", "metrics.json", "samples.jsonl", "efficiency.json", "config.json"])
@pytest.mark.parametrize("how", ["folder", "deep", "garbage", "empty"])
def test_a_file_that_is_something_else_is_damage(root, name, how):
    folder = power(root)
    (folder / name).unlink()
    if how == "folder":
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes({"deep": DEEP, "garbage": b"\xff\x00{", "empty": b""}[how])
    (bad,) = [cell for cell in read_cells(root) if cell.problem]
    assert name in bad.problem and not bad.done
    assert [c.run_id for sweep in read_status(root) for c in sweep.cells if c.state == "damaged"] == [bad.run_id]
    assert [row["run_id"] for row in rows_for_table(read_cells(root)) if row["status"] == "damaged"] == [bad.run_id]


@pytest.mark.parametrize("name", ["DONE", "samples.jsonl"])
def test_a_folder_in_place_of_a_file_crashes_no_command(root, capsys, name):
    folder = power(root)
    (folder / name).unlink()
    (folder / name).mkdir()
    is_damaged_everywhere(root, capsys, name)


def test_sync_names_a_damaged_cell_in_place_of_leaving_it_out(root, capsys):
    (power(root) / "DONE").write_text("{")
    assert main(["sync", f"results={root}", "tracking=offline", "tracking.timeout=1"]) == 1
    assert "DONE" in "".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", [*seal.RECORDS, "figures/table.csv", "tables/table.json"])
def test_every_record_is_sealed(root, name):
    folder = power(root)
    others = {
        "errors.jsonl": b'{"id": "x"}\n',
        "engaged.json": b"{}",
        "cost.json": b'{"seconds": 1}',
        "summary.json": b"{}",
        "figures/table.csv": b"a,b\n",
        "tables/table.json": b"{}",
        "learned.safetensors": b"tensors",
    }
    for inner in seal.CELL.folders:
        (folder / inner).mkdir(exist_ok=True)
    for other, data in others.items():
        (folder / other).write_bytes(data)
    seal.write(folder)
    assert read_cell(folder).done
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(before + b" ")
    assert f"{name} was changed after the cell was finished" in read_cell(folder).problem
    (folder / name).unlink()
    assert Path(name).name in read_cell(folder).problem and not read_cell(folder).done
    (folder / name).write_bytes(before)
    assert read_cell(folder).done


def test_a_record_that_was_added_is_damage(root):
    (power(root) / "engaged.json").write_text("{}")
    assert "engaged.json was changed after the cell was finished: it was added" in read_cell(power_of(root)).problem


def test_another_label_or_parameter_does_not_pass_and_the_run_id_says_whose_it_is(tmp_path, capsys):
    config = {"labels.method": "quest"}
    root = tmp_path / "results"
    for method, rows in (("dense", DENSE), ("power", POWER)):
        cell = add_cell(
            root,
            method,
            rows,
            None,
            identity={"method": {"target": f"methods.{method.title()}"}, "task": {"target": "tasks.Passkey"}},
        )
    edit(cell.path / "config.json", config)
    assert read_cell(cell.path).problem.startswith("By its run id it is Power on Passkey. ")
    said = told(root, capsys)
    assert all("By its run id it is Power" in said[name][1] for name in ("status", "report"))
    assert said["gate"][0] == 2 and "1 done" in said["report"][1]
    edit(cell.path / "config.json", {"labels.method": "power", "identity.seed": 99})
    seal.write(cell.path)
    assert "its identity has the run id" in read_cell(cell.path).problem


def test_a_cell_under_another_name_is_damage(root):
    folder = power(root)
    shutil.move(folder, folder.with_name("0" * 16))
    (bad,) = [cell for cell in read_cells(root) if cell.problem]
    assert "not that of its folder" in bad.problem


def test_half_characters_are_shown_as_a_sign(root, capsys):
    edit(power(root) / "config.json", {"labels.method": "po\ud800wer", "preset": "\udfff"})
    seal.write(power_of(root))
    said = told(root, capsys)
    assert "po\ufffdwer" in said["export"][1] or "wrote" in said["export"][1]
    assert [c.labels["method"] for c in read_cells(root) if c.labels["method"] != "dense"] == ["po\ufffdwer"]


def test_numbers_that_are_not_finite_are_missing_and_named(root):
    edit(power(root) / "metrics.json", {"values.accuracy.value": float("nan")})
    seal.write(power_of(root))
    cell = read_cell(power(root))
    assert (
        cell.done
        and cell.metrics["values"]["accuracy"]["value"] is None
        and cell.nonfinite == ("values.accuracy.value",)
    )


def test_a_cell_of_an_earlier_version_is_read_and_said_to_be_sealed_the_old_way(root, capsys):
    from tests.report.stored import seal as old_seal

    for cell in read_cells(root):
        old_seal(cell.path)
    edit(power(root) / "efficiency.json", {"level": "quick"})  # nothing stood for it then
    cells = read_cells(root)
    assert all(cell.done and cell.old_seal for cell in cells)
    said = told(root, capsys)
    assert "2 cells were sealed by an earlier heed" in said["report"][1] and said["compare"][0] == said["gate"][0] == 0
    edit(power(root) / "config.json", {"identity.seed": 99})
    assert sum(bool(cell.problem) for cell in read_cells(root)) == 1


def test_what_stands_in_the_repository_is_read(tmp_path, capsys):
    reference = Path(__file__).parents[2] / "results" / "reference"
    cells = read_cells(reference)
    assert cells and not [cell.problem for cell in cells if cell.problem]
    assert main(["report", str(reference), "--out", str(tmp_path)]) == 0
    assert main(["compare", "quest", "dense", "--results", str(reference)]) == 0
