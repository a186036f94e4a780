"""The samples of cells that run side by side, batch after batch: one prefill for all, halves when memory runs out, and a
sample that raises costs nobody else anything, now or when it is tried again.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.running.cell import CellRun
from harness.running.settings import Progress

if TYPE_CHECKING:
    from harness.attention.attach import Attached

Row = dict[str, Any]


@dataclass(frozen=True)
class Raised:
    """In place of a sample's row: what its computation raised."""

    error: Exception = field(compare=False)

    def row(self, key: str) -> dict[str, str]:
        """The line of `errors.jsonl`."""
        text = "".join(traceback.format_exception(self.error))
        return {"id": key, "kind": type(self.error).__name__, "message": str(self.error), "traceback": text}


def compute(works: Sequence[CellRun], together: bool, progress: Progress) -> dict[str, UserError]:
    """Compute and store what the cells still have `todo`; returns why a cell ended, by run id.

    `together`: all share one dense prefill of each batch.
    """
    ended: dict[str, UserError] = {}
    for part in [list(works)] if together else [[w] for w in works]:
        part = [w for w in part if w.todo]
        if part:
            Sampling(part, together, progress, ended).run()
    return ended


class Sampling:
    """Cells with the same batches. `ended` collects the reasons of those that cannot go on."""

    def __init__(self, works: list[CellRun], shared: bool, progress: Progress, ended: dict[str, UserError]) -> None:
        self.works, self.shared, self.progress, self.ended = works, shared, progress, ended
        self.attached: dict[str, Attached] = {}

    def run(self) -> None:
        first = self.works[0]
        whole, left = self._cost(range(len(first.asked.lengths))), sum(self._cost(w.todo) for w in self.works)
        self.progress.start(self._label(), whole * len(self.works), whole * len(self.works) - left)
        for work in self.works:
            self._guard(work, partial(self._prepare, work))
        with ExitStack() as stack:
            if not self.shared and self.attached:  # one method, at work for all its batches
                stack.enter_context(self.attached[first.cell.run_id].active())
            for batch in first.asked.batches_of({i for w in self.works for i in w.todo}):
                for samples, members in self._needed(batch).items():
                    self._batch(members, list(samples))
                    self.progress.advance(self._cost(samples) * len(members))

    def _needed(self, batch: Sequence[int]) -> dict[tuple[int, ...], list[CellRun]]:
        """The parts of a batch that are still to be computed, each with the cells that lack exactly these samples."""
        found: dict[tuple[int, ...], list[CellRun]] = {}
        for work in self.works:
            samples = tuple(i for i in batch if i in work.todo)
            if samples and work.cell.run_id not in self.ended:
                found.setdefault(samples, []).append(work)
        return found

    def _cost(self, samples: Iterable[int]) -> int:
        """Tokens of one cell's samples."""
        first = self.works[0].asked
        return sum(first.lengths[i] + first.new[i] for i in samples)

    def _label(self) -> str:
        cell, others = self.works[0].cell, [w.cell.method_label for w in self.works[1:]]
        methods = ", ".join([cell.method_label, *others[:2]]) + (f" + {len(others) - 2}" if len(others) > 2 else "")
        return f"{cell.model_label} / {methods} / {cell.task_label}"

    def _guard(self, work: CellRun, step: Any) -> None:
        try:
            step()
        except UserError as error:
            self.ended[work.cell.run_id] = error

    def _batch(self, members: list[CellRun], batch: list[int]) -> None:
        from harness.asking.batches import backoff

        lengths = members[0].asked.lengths
        try:
            found = backoff(lambda part: self._answers(members, part), batch, length=lambda i: lengths[i])
        except UserError as error:  # one example alone does not fit into memory, or the batch is senseless for all
            self.ended |= {w.cell.run_id: error for w in members}
            return
        for column, work in enumerate(members):
            if work.cell.run_id not in self.ended:
                self._guard(work, partial(self._store, work, batch, [row[column] for row in found]))

    def _prepare(self, work: CellRun) -> None:
        self.attached[work.cell.run_id] = work.prepared()

    def _store(self, work: CellRun, batch: Sequence[int], rows: Sequence[Row | Raised]) -> None:
        good = [row for row in rows if isinstance(row, dict)]
        if good:
            work.store.append(good)
        work.tokens += sum(work.asked.lengths[i] + work.asked.new[i] for i in batch)
        bad = [(i, row) for i, row in zip(batch, rows, strict=True) if isinstance(row, Raised)]
        work.failed([row.row(work.asked.examples[i].id) for i, row in bad])

    # -- answers: for every sample a list with one row for each member ------------------------------------------------

    def _answers(self, members: list[CellRun], batch: list[int]) -> list[list[Row | Raised]]:
        if not self.shared:
            return [[row] for row in self._own(members[0], batch)]
        started = time.perf_counter()
        try:
            prefilled = self._prefilled(members, batch)
        except Exception as error:
            return self._halves(error, members, batch)
        each = (time.perf_counter() - started) / len(members)
        columns = []
        for work in members:
            started = time.perf_counter()
            columns.append(self._go_on(work, batch, prefilled))
            work.seconds += each + time.perf_counter() - started
        return [list(row) for row in zip(*columns, strict=True)]

    def _halves(self, error: Exception, members: list[CellRun], batch: list[int]) -> list[list[Row | Raised]]:
        """After an exception in a batch: the same on its halves, until the sample that raises stands alone."""
        from harness.asking.batches import is_out_of_memory

        if isinstance(error, UserError) or is_out_of_memory(error):
            raise error
        if len(batch) == 1:
            return [[Raised(error)] * len(members)]
        half = (len(batch) + 1) // 2
        return self._answers(members, batch[:half]) + self._answers(members, batch[half:])

    def _own(self, work: CellRun, batch: list[int]) -> list[Row | Raised]:
        """One method, the prompt read under it."""
        attached, started = self.attached[work.cell.run_id], time.perf_counter()
        try:
            attached.reset()
            rows: list[Row | Raised] = [*work.asked.answers(batch, attached)]
        except Exception as error:
            return [row[0] for row in self._halves(error, [work], batch)]
        work.seconds += time.perf_counter() - started
        return rows

    def _prefilled(self, members: list[CellRun], batch: list[int]) -> Any:
        first, attached = members[0], [self.attached[w.cell.run_id] for w in members]
        for one in attached:
            one.reset()
        return first.asked.prefill(batch, attached)

    def _go_on(self, work: CellRun, batch: list[int], prefilled: Any) -> list[Row | Raised]:
        attached = self.attached[work.cell.run_id]
        try:
            return [*work.asked.go_on(prefilled, batch, attached)]
        except UserError as error:
            self.ended[work.cell.run_id] = error
            return [Raised(error)] * len(batch)
        except Exception as error:
            return [row[0] for row in self._halves(error, [work], batch)]
