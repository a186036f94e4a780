"""Which stored cell another one is compared with: that of the run id which stands in its `needs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.config.schema import BASELINE
from harness.records.cells import CellRecord


def baselines(cells: Sequence[CellRecord]) -> Mapping[str, CellRecord]:
    """run id -> the baseline of that cell among `cells`; a baseline is its own, and what has none here is left out.

    Cells that were written before needs were stored, and damaged ones, of which only labels are known, are paired with the
    cell that bears the baseline's label for the same model and task.
    """
    stored = {cell.run_id: cell for cell in cells}
    labelled = {_place(cell): cell for cell in cells if cell.labels.get("method") == BASELINE}
    found = {}
    for cell in cells:
        needs = cell.config.get("needs")
        base = labelled.get(_place(cell)) if needs is None else stored.get(needs["baseline"] or "")
        if base is not None:
            found[cell.run_id] = base
    return found


def _place(cell: CellRecord) -> tuple[str | None, str | None]:
    return cell.labels.get("model"), cell.labels.get("task")
