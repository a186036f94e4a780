"""`heed calibrate`: compute what calibrated methods learn about a model, before any run; print where it lies and what is in it.

`heed run` does the same by itself when it meets such a method for the first time on a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.config.build import group
from harness.config.compose import compose
from harness.contracts.table import Table
from harness.disk.whole import write_bytes
from harness.errors import UserError
from harness.models import kept_model
from harness.plan.calibration import calibration_lesson
from harness.records import learned
from harness.records.pictures import draw
from harness.records.tables import FOLDER
from harness.terminal.printing import Terminal


def make(overrides: list[str]) -> int:
    """One lesson for each model and calibrated method of the overrides."""
    cfg = compose(overrides)
    console, root = Terminal(), Path(cfg.results)
    methods = {label: m for label, m in group(cfg, "method").items() if m.lesson() is not None}
    if not methods:
        raise UserError(
            "None of these methods is calibrated; method= names none that learns about a model before it acts."
        )
    with kept_model.kept():
        for model_label, spec in group(cfg, "model").items():
            facts = spec.identity()
            for label, method in methods.items():
                lesson = calibration_lesson((label, model_label), spec, method, facts)
                assert lesson is not None
                folder = learned.place(root, learned.lesson_id(lesson))
                fresh = learned.read(folder) is None
                with console.status(f"calibrating {lesson.label}") as shown:
                    found = learned.obtain(lesson, root, shown.update)
                files = [folder / learned.TENSORS, *_pictures(folder, found.tables, lesson.label)]
                said = "calibrated" if fresh else "calibrated before"
                console.print(f"{lesson.label}: {said}; {', '.join(map(str, files))}", soft_wrap=True)
    return 0


def _pictures(folder: Path, tables: Mapping[str, Table], title: str) -> list[Path]:
    """The files that show the tables: as CSV, and as a picture where their columns allow one."""
    files = []
    for name, table in sorted(tables.items()):
        files.append(folder / FOLDER / f"{name}.csv")
        if (picture := draw(table, title)) is not None:
            write_bytes(folder / FOLDER / f"{name}.png", picture)
            files.append(folder / FOLDER / f"{name}.png")
    return files
