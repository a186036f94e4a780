"""What the cells of a plan need to have learned: each lesson is obtained once, right before the cells of its model.

A lesson that fails costs the others nothing: what it raised is kept, and raised again in the cells that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.contracts.lesson import Learned, Lesson
from harness.errors import UserError
from harness.plan.calibration import calibration_lesson
from harness.plan.cells import Cell, is_done
from harness.plan.named import read_named
from harness.plan.refusals import facts, refusal
from harness.records.learned import lesson_id, obtain, place
from harness.running.settings import Progress

if TYPE_CHECKING:
    from torch import Tensor


EARLIER = "artifacts"  # where earlier versions kept what methods learned


class Lessons:
    """The lessons of one results folder."""

    def __init__(self, root: Path, progress: Progress) -> None:
        self.root, self.progress = root, progress
        self._failed: dict[str, Exception] = {}

    def learn(self, cells: Sequence[Cell], search: str) -> None:
        """Obtain what the unfinished cells need, but for those of which the plan knows that they will be refused."""
        for cell in cells:
            if cell.needs.lessons and not is_done(self.root, cell.run_id) and not _refused(cell, search):
                self._tell_of_earlier(cell)
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
        return obtain(lesson, self.root, self.progress.note)

    def _tell_of_earlier(self, cell: Cell) -> None:
        """Say once what an earlier version learned, and named in a way that tells this one nothing."""
        begun = any(place(self.root, key).exists() for key in cell.needs.lesson_ids)
        earlier = sorted((self.root / EARLIER).glob(f"{cell.method.name}-*.safetensors"))
        if earlier and not begun:
            self.progress.tell(
                f"{earlier[0]} was learned by an earlier version and is not looked at: {cell.needs.lessons[0].label} is learned anew. "
                f"To use the file, set method.{cell.method_label}.artifact={earlier[0]}."
            )

    def tensors(self, cell: Cell) -> dict[str, Tensor]:
        """What the method of a cell finds in `Request.artifact`: tensors of its lessons, or of the file that the user named."""
        if cell.method.artifact:
            labels = cell.method_label, cell.model_label
            lesson = calibration_lesson(labels, cell.spec, cell.method, cell.identity["model"])
            return read_named(cell.method, lesson.identity(), cell.identity["method"]) if lesson else {}
        return {name: value for lesson in cell.needs.lessons for name, value in self._obtain(lesson).tensors.items()}


def _refused(cell: Cell, search: str) -> bool:
    try:
        return bool(refusal(cell, facts(cell.spec), search))
    except UserError:  # of a model that cannot be read its cells say more
        return False
