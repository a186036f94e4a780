"""Where the lessons of a results folder stand: those that plans name, and those that were begun or learned without one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts.lesson import LOG
from harness.disk.whole import read_json
from harness.errors import UserError
from harness.plan.planned import read_plans
from harness.records.learned import FOLDER, WORKING, State, look, place


@dataclass(frozen=True)
class LessonState:
    """`reason`: what is damaged. `last`: the last numbers in the log of one that was begun and is not learned yet."""

    lesson_id: str
    label: str
    state: State
    reason: str = ""
    last: str = ""


def read_lessons(root: Path) -> list[LessonState]:
    """All lessons of the folder, those of plans first."""
    named = {lesson.lesson_id: lesson.label for plan in read_plans(root) for lesson in plan.lessons}
    folder = root / FOLDER
    stored = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    found = named | {key: _label(folder / key) for key in stored if key not in named}
    return [_state(place(root, key), label) for key, label in found.items()]


def _state(folder: Path, label: str) -> LessonState:
    state, reason = look(folder)
    return LessonState(folder.name, label, state, reason, "" if state == "learned" else _last(folder / WORKING / LOG))


def _last(log: Path) -> str:
    """`step 350, loss 2.31`: from the last whole line that has both; empty where there is none."""
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    for line in reversed(lines):
        try:
            row = json.loads(line)
            return f"step {row['step']:d}, loss {row['loss']:.3g}"
        except (ValueError, TypeError, LookupError):  # torn, or a line of another kind
            continue
    return ""


def _label(folder: Path) -> str:
    """As the lesson calls itself; its id where that cannot be read."""
    try:
        stored: Any = read_json(folder / "config.json").get("label")
    except (UserError, OSError):
        stored = None
    return stored if isinstance(stored, str) else folder.name
