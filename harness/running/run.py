"""Executes a plan on this machine, in one loop: load a model once, obtain what must be learned about it, prepare a task's examples
once, run its cells, the baseline first, side by side where they share a prefill.

Everything a user sees is read back from the records that this module writes; nothing is printed from live results.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from harness.contracts.probe import Probe
from harness.disk.locks import Busy
from harness.errors import Unsupported, UserError
from harness.models import kept_model
from harness.plan.cells import Cell
from harness.plan.sharing import groups
from harness.records.store import CellStore
from harness.running.cell import CellRun
from harness.running.examples import task_data
from harness.running.lessons import Lessons
from harness.running.once import Once
from harness.running.probe import ProbeRun
from harness.running.samples import compute
from harness.running.settings import Outcome, Progress, RunSettings

if TYPE_CHECKING:
    from harness.models.view import View

__all__ = ["Outcome", "Progress", "RunSettings", "execute"]


def execute(
    cells: Sequence[Cell],
    settings: RunSettings,
    progress: Progress | None = None,
    after: Callable[[Cell], None] | None = None,
) -> list[Outcome]:
    """Run every cell that is not finished; `after` is called with each cell whose records were completed now.

    Cells that another process has are tried once more when the others are through.
    """
    progress = progress or Progress()
    found: dict[str, Outcome] = {}
    todo = list(cells)
    with kept_model.kept():
        lessons = Lessons(settings.root, progress)
        for _ in range(2):
            for outcome in _pass(todo, lessons, settings, progress):
                found[outcome.cell.run_id] = outcome
                if outcome.status == "done" and after:
                    after(outcome.cell)
            todo = [c for c in cells if found[c.run_id].status == "busy"]
    return [found[c.run_id] for c in cells]


def _pass(cells: Sequence[Cell], lessons: Lessons, settings: RunSettings, progress: Progress) -> Iterator[Outcome]:
    for _, same_model in groupby(cells, key=lambda c: c.model_label):
        group = list(same_model)
        lessons.learn(group, settings.decoding.search)  # here, so that the model that it loads is there for the cells
        loaded = Once(partial(_load, group[0], progress))
        for _, same_task in groupby(group, key=lambda c: c.task_label):
            for outcome in _run_task(list(same_task), loaded, lessons, settings, progress):
                progress.finish(outcome)
                yield outcome


def _load(cell: Cell, progress: Progress) -> View:
    progress.note(f"loading {cell.model_label}")
    return kept_model.load(cell.spec)


def _run_task(
    cells: list[Cell], view: Once, lessons: Lessons, settings: RunSettings, progress: Progress
) -> Iterator[Outcome]:
    data = Once(lambda: task_data(cells[0], view(), settings, progress))
    dense = next((c for c in cells if c.run_id == c.needs.baseline), None)
    for group in groups(cells, settings.decoding, settings.share):
        with ExitStack() as stack:
            parts: dict[str, Any] = {"view": view, "data": data, "lessons": lessons}
            make = partial(_opened, stack, settings=settings, progress=progress, **parts)
            yield from Group(make, dense).run(group)


def _opened(stack: ExitStack, cell: Cell, settings: RunSettings, **parts: Any) -> CellRun:
    """The cell's folder, held until the stack is closed. `UserError` if it cannot be used."""
    store = CellStore(settings.root, cell.run_id, cell.config(settings.preset), shard=settings.shard)
    made = ProbeRun if isinstance(cell.method, Probe) else CellRun
    return made(cell, stack.enter_context(store), settings=settings, **parts)


class Group:
    """Cells that run side by side (most stand alone). What goes wrong with one does not touch the others."""

    def __init__(self, make: Callable[[Cell], CellRun], dense: Cell | None) -> None:
        self.make, self.dense = make, dense
        self.works: dict[str, CellRun] = {}
        self.ended: dict[str, Outcome] = {}

    def run(self, cells: list[Cell]) -> Iterator[Outcome]:
        """One outcome for each cell, in their order."""
        for cell in cells:
            self._step(cell, partial(self._begin, cell))
        alive = [self.works[c.run_id] for c in cells if c.run_id not in self.ended]
        if alive:
            for run_id, error in compute(
                alive, len(cells) > 1 and alive[0].view.vision is None, alive[0].progress
            ).items():
                self._end(self.works[run_id].cell, error)
        for cell in cells:
            if cell.run_id not in self.ended:
                self._step(cell, partial(self.works[cell.run_id].conclude, self.dense))
            yield self.ended[cell.run_id]

    def _begin(self, cell: Cell) -> str | None:
        self.works[cell.run_id] = work = self.make(cell)
        return work.begin(self.dense)

    def _step(self, cell: Cell, step: Callable[[], str | None]) -> None:
        try:
            status = step()
            if status is not None:
                self.ended[cell.run_id] = Outcome(cell, status)
        except Exception as error:
            self._end(cell, error)

    def _end(self, cell: Cell, error: Exception) -> None:
        bug = not isinstance(error, UserError)
        reason = "".join(traceback.format_exception(error)).rstrip() if bug else str(error)
        work = self.works.get(cell.run_id)
        if work is not None and not isinstance(error, Busy) and not work.store.done:
            work.store.fail(type(error).__name__, str(error))
        status = "busy" if isinstance(error, Busy) else "refused" if isinstance(error, Unsupported) else "failed"
        self.ended[cell.run_id] = Outcome(cell, status, reason, bug)
