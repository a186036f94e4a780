"""Cells of probes, as every report shows them: what was concluded, from how many examples, and which rows stand first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.analysis.board_rows import status_of
from harness.contracts.table import Row, Table
from harness.errors import UserError
from harness.records.cells import CellRecord
from harness.records.tables import concluded, is_probe

NO_RESULT = "it is a probe's, which has tables and no result; heed report shows them"


@dataclass(frozen=True)
class Probed:
    """`status` and `reason`: of `board_rows.status_of`; a finished cell of which a table cannot be read is damaged."""

    cell: CellRecord
    status: str
    reason: str = ""
    tables: Mapping[str, Table] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`model / probe / task`, by their labels."""
        labels = self.cell.labels
        return " / ".join(str(labels.get(key, "?")) for key in ("model", "method", "task"))

    @property
    def examples(self) -> str:
        """How many examples were asked, and how many of them gave rows."""
        n, seen = (self.cell.metrics.get(key) or 0 for key in ("n", "n_seen"))
        return f"{n} examples" + (f", {seen} with something to see" if seen != n else "")


def split(cells: Sequence[CellRecord]) -> tuple[list[CellRecord], list[CellRecord]]:
    """Cells with results, and those of probes."""
    return [cell for cell in cells if not is_probe(cell)], [cell for cell in cells if is_probe(cell)]


def probed(cells: Sequence[CellRecord]) -> list[Probed]:
    """What the cells of probes among `cells` found, by name."""
    return sorted(map(_probed, split(cells)[1]), key=lambda one: (one.name, one.cell.run_id))


def _probed(cell: CellRecord) -> Probed:
    status, reason = status_of(cell)
    if status != "done":
        return Probed(cell, status, reason)
    try:
        return Probed(cell, status, tables=concluded(cell.path))
    except UserError as error:
        return Probed(cell, "damaged", str(error))


def leading(table: Table, most: int) -> tuple[Sequence[Row], str]:
    """The rows that are shown where there is room for `most`, and which these are: all in their order, or those in which
    the first number is largest.
    """
    numbers = [i for i, column in enumerate(table.columns) if column.kind == "number"]
    if len(table.rows) <= most or not numbers:
        some = f"the first {most} of {len(table.rows)} rows" if len(table.rows) > most else ""
        return table.rows[:most], some
    at = numbers[0]

    def value(row: Row) -> float:
        return float("-inf") if (found := row[at]) is None else float(found)

    rows = sorted(table.rows, key=value, reverse=True)[:most]
    return rows, f"the {most} largest of {len(table.rows)} rows by {table.columns[at].name}"
