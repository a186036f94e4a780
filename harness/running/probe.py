"""The cell of a probe: its samples hold the rows that were seen on them, and from all rows it concludes tables and tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from harness.contracts.probe import Probe
from harness.contracts.table import Table
from harness.disk.whole import write_bytes
from harness.errors import Unsupported
from harness.identity.run_id import canonical
from harness.records import learned, tables
from harness.records.pictures import draw
from harness.records.tables import ROWS
from harness.running.asked import Asked
from harness.running.cell import CellRun

if TYPE_CHECKING:
    from torch import Tensor

    from harness.attention.attach import Attached


class Watched(Asked):
    """What is asked under a probe: one example at a time, each with what the probe saw on it."""

    @property
    def probe(self) -> Probe:
        return cast(Probe, self.cell.method)

    def prove(self, artifact: Mapping[str, Tensor]) -> dict[str, Any]:
        if not any(self.probe.reads(example) for example in self.examples):
            raise Unsupported(
                f"Probe '{self.cell.method_label}' looks for {self.probe.wants}, and none of the {len(self.examples)} examples of "
                f"task '{self.cell.task_label}' is one; choose another task, or more of its examples (limit)."
            )
        return super().prove(artifact)

    def answers(self, batch: Sequence[int], attached: Attached) -> list[dict[str, Any]]:
        from harness.asking.look import look

        (i,) = batch  # probes are asked one example at a time
        answer, rows = look(self.asker, self.examples[i], self.samples[i], attached, self.settings.decoding)
        return [self.row(i, answer, []) | {ROWS: rows}]


class ProbeRun(CellRun):
    """A cell whose method only looks. Nothing is compared or timed: its answers are dense's."""

    @cached_property
    def asked(self) -> Watched:
        return Watched(self.cell, self.view, self._data(), self.settings)

    def _efficiency_missing(self) -> bool:
        return False

    def _told(self, rows: list[dict[str, Any]]) -> dict[str, int]:
        """Examples on which something was seen, and rows of all of them."""
        seen = [row[ROWS] for row in rows]
        return {"n_seen": sum(map(self.asked.probe.tells, seen)), "n_rows": sum(map(len, seen))}

    def _summary_and_figures(self, rows: list[dict[str, Any]]) -> None:
        """Tables, their pictures and tensors; done again after an interruption, the same."""
        probe, folder, seen = self.asked.probe, self.store.path, {row["id"]: row[ROWS] for row in rows}
        if not any(seen.values()):
            raise Unsupported(
                f"Probe '{self.cell.method_label}' saw nothing on {len(rows)} examples of task '{self.cell.task_label}': it gave no "
                "row. Choose another task, or more of its examples (limit)."
            )
        found = probe.conclude([seen[e.id] for e in self.asked.examples if e.id in seen and probe.reads(e)])
        learned.store(folder, found, canonical(self.cell.identity))
        tables.write_rows(folder, probe.columns, [(row["id"], *one) for row in rows for one in row[ROWS]])
        for name, table in found.tables.items():
            self._draw(name, table)

    def _draw(self, name: str, table: Table) -> None:
        if (picture := draw(table, self.cell.label)) is not None:
            write_bytes(self.store.figures / f"{name}.png", picture)
