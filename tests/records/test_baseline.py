"""Readers pair a cell with its baseline by the run id that it was planned with; labels count only where none is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.analysis.baseline import baselines
from harness.analysis.board_rows import rows_for_table
from harness.records.cells import CellRecord, read_cells

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def cell(run_id: str, method: str, needs: dict[str, Any] | None = None, task: str = "passkey") -> CellRecord:
    config: dict[str, Any] = {"labels": {"model": "micro", "method": method, "task": task}}
    config |= {} if needs is None else {"needs": needs}
    return CellRecord(run_id, Path(run_id), config)


def paired(*cells: CellRecord) -> dict[str, str]:
    return {key: base.run_id for key, base in baselines(cells).items()}


def test_cells_of_equal_labels_find_each_its_own_baseline() -> None:
    one, other = (cell(name, "dense", {"baseline": name}) for name in ("b1", "b2"))
    first, second = cell("m1", "power", {"baseline": "b1"}), cell("m2", "power", {"baseline": "b2"})
    assert paired(first, one, second, other) == {"b1": "b1", "b2": "b2", "m1": "b1", "m2": "b2"}


def test_a_baseline_may_be_called_otherwise_and_is_the_first_row() -> None:
    plain, power = cell("b", "the model itself", {"baseline": "b"}), cell("m", "power", {"baseline": "b"})
    assert [(row["method"], row["is_baseline"]) for row in rows_for_table([power, plain])] == [
        ("the model itself", True), ("power", False)
    ]  # fmt: skip
    assert not any(row["is_baseline"] for row in rows_for_table([power]))


def test_what_is_compared_with_nothing_has_no_baseline_whatever_the_others_are_called() -> None:
    assert paired(cell("p", "probe", {"baseline": None}), cell("d", "dense")) == {"d": "d"}


def test_cells_written_before_needs_were_stored_are_paired_by_labels() -> None:
    old = [cell("d", "dense"), cell("m", "power"), cell("n", "power", task="ruler")]
    assert paired(*old) == {"d": "d", "m": "d"}


def test_the_committed_reference_has_a_baseline_for_each_of_its_cells() -> None:
    cells = read_cells(REFERENCE)
    assert cells and {c.run_id for c in cells} == set(baselines(cells))
