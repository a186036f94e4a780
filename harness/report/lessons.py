"""Where the lessons of a results folder stand: those that plans name, and those that were begun or learned without one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.disk.whole import read_json
from harness.errors import UserError
from harness.plan.planned import read_plans
from harness.records.learned import FOLDER, State, look, place


@dataclass(frozen=True)
class LessonState:
    """`reason`: what is damaged."""

    lesson_id: str
    label: str
    state: State
    reason: str = ""


def read_lessons(root: Path) -> list[LessonState]:
    """All lessons of the folder, those of plans first."""
    named = {lesson.lesson_id: lesson.label for plan in read_plans(root) for lesson in plan.lessons}
    folder = root / FOLDER
    stored = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    found = named | {key: _label(folder / key) for key in stored if key not in named}
    return [LessonState(key, label, *look(place(root, key))) for key, label in found.items()]


def _label(folder: Path) -> str:
    """As the lesson calls itself; its id where that cannot be read."""
    try:
        stored: Any = read_json(folder / "config.json").get("label")
    except (UserError, OSError):
        stored = None
    return stored if isinstance(stored, str) else folder.name
