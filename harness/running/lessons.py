"""What the cells of a plan need to have learned: each lesson is obtained once, before models are loaded for cells.

A lesson that fails costs the others nothing: what it raised is kept, and raised again in the cells that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.contracts.lesson import Learned, Lesson
from harness.errors import Unsupported
from harness.plan.calibration import calibration_lesson
from harness.plan.cells import Cell, is_done
from harness.plan.named import read_named
from harness.plan.refusals import check_search
from harness.records.learned import lesson_id, obtain

if TYPE_CHECKING:
    from torch import Tensor


class Lessons:
    """The lessons of one results folder. `note` is told what is being done."""

    def __init__(self, root: Path, note: Callable[[str], None]) -> None:
        self.root, self.note = root, note
        self._failed: dict[str, Exception] = {}

    def learn(self, cells: Sequence[Cell], search: str) -> None:
        """Obtain what the unfinished cells need, but for those that will be refused anyway."""
        for cell in cells:
            if not is_done(self.root, cell.run_id) and _can_search(cell, search):
                for lesson in cell.needs.lessons:
                    self._try(lesson)

    def _try(self, lesson: Lesson) -> None:
        try:
            self._obtain(lesson)
        except Exception as error:  # whatever it is, it belongs to the cells that need the lesson
            self._failed[lesson_id(lesson)] = error

    def _obtain(self, lesson: Lesson) -> Learned:
        """Read, where it was learned before. What failed once in this process is not tried again for the next cell."""
        if (error := self._failed.get(lesson_id(lesson))) is not None:
            raise error
        return obtain(lesson, self.root, self.note)

    def tensors(self, cell: Cell) -> dict[str, Tensor]:
        """What the method of a cell finds in `Request.artifact`: tensors of its lessons, or of the file that the user named."""
        if cell.method.artifact:
            labels = cell.method_label, cell.model_label
            lesson = calibration_lesson(labels, cell.spec, cell.method, cell.identity["model"])
            return read_named(cell.method, lesson.identity(), cell.identity["method"]) if lesson else {}
        return {name: value for lesson in cell.needs.lessons for name, value in self._obtain(lesson).tensors.items()}


def _can_search(cell: Cell, search: str) -> bool:
    try:
        check_search(cell.method, cell.method_label, search)
    except Unsupported:
        return False
    return True
