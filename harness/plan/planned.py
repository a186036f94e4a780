"""What runs and sweeps intend to do: `results/plans/<name>.json`, written when one starts, so that pending cells are known.

The name is that of the plan (equal plans share it), so starting the same command again replaces the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.disk.whole import disk_error, write_bytes
from harness.records.provenance import now

if TYPE_CHECKING:
    from harness.contracts.lesson import Lesson
    from harness.plan.cells import Cell

FOLDER = "plans"


@dataclass(frozen=True)
class PlannedCell:
    """`n`: samples it will have, as far as its task knows; 0 if it does not."""

    run_id: str
    model: str
    method: str
    task: str
    n: int = 0


@dataclass(frozen=True)
class PlannedLesson:
    """What some of the cells need to have learned."""

    lesson_id: str
    label: str


@dataclass(frozen=True)
class Planned:
    """`command`: the words of the command line, without `heed`."""

    name: str
    command: tuple[str, ...]
    started: str
    cells: tuple[PlannedCell, ...]
    lessons: tuple[PlannedLesson, ...] = ()


def write(root: Path, name: str, command: Sequence[str], cells: Sequence[Cell], limit: int | None = None) -> Path:
    """Store the plan. `UserError` if the disk does not take it."""
    file = Path(root) / FOLDER / f"{name}.json"
    rows = [[c.run_id, c.model_label, c.method_label, c.task_label, _samples(c.task.size()[0], limit)] for c in cells]
    stored = {
        "sweep": name,
        "command": list(command),
        "started": now(),
        "columns": ["run_id", "model", "method", "task", "n"],
        "cells": rows,
        "lessons": [[key, lesson.label] for key, lesson in lessons_of(cells).items()],
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise disk_error(file, err) from err
    write_bytes(file, (json.dumps(stored, ensure_ascii=False, separators=(",", ":")) + "\n").encode())
    return file


def lessons_of(cells: Sequence[Cell]) -> dict[str, Lesson]:
    """Id -> lesson, of all that the cells need."""
    return {key: one for c in cells for key, one in zip(c.needs.lesson_ids, c.needs.lessons, strict=True)}


def _samples(n: int, limit: int | None) -> int:
    return min(n, limit) if n and limit else n


def read_plans(root: Path) -> list[Planned]:
    """All plans below `root`, the latest first. A file that cannot be read is passed over: the records do not need it."""
    folder = Path(root) / FOLDER
    found = [_read(file) for file in sorted(folder.glob("*.json"))] if folder.is_dir() else []
    return sorted((plan for plan in found if plan), key=lambda p: p.started, reverse=True)


def _read(file: Path) -> Planned | None:
    try:
        stored: dict[str, Any] = json.loads(file.read_bytes())
        cells = tuple(PlannedCell(str(r), str(m), str(a), str(t), int(n or 0)) for r, m, a, t, n in stored["cells"])
        lessons = tuple(PlannedLesson(str(key), str(label)) for key, label in stored.get("lessons") or ())
        return Planned(str(stored["sweep"]), tuple(map(str, stored["command"])), str(stored["started"]), cells, lessons)
    except (OSError, ValueError, TypeError, KeyError):
        return None
