"""What a cell needs beside its model, method and task: the cell that it is compared with, what must be learned, a judge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.contracts.lesson import Lesson
from harness.records.learned import lesson_id


@dataclass(frozen=True)
class Needs:
    """`baseline`: run id of the cell that this one is compared with; a baseline names itself, and what is compared with
    nothing has None. `lessons`: what must be learned first. `judge`: nobody judges answers yet.
    """

    baseline: str | None = None
    lessons: tuple[Lesson, ...] = ()
    judge: None = None

    @cached_property
    def lesson_ids(self) -> tuple[str, ...]:
        """The names of the lessons in `results/learned/`."""
        return tuple(lesson_id(lesson) for lesson in self.lessons)

    def stored(self) -> dict[str, Any]:
        """What `config.json` holds, beside the identity of the cell and not in it."""
        lessons = [
            {"id": key, "label": lesson.label} for key, lesson in zip(self.lesson_ids, self.lessons, strict=True)
        ]
        return {"baseline": self.baseline, "lessons": lessons, "judge": self.judge}
