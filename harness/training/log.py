"""What happened in a training: `log.jsonl`, one JSON object a line, each with the `step` that had just ended.

Every `log_every` steps the means of what these steps gave, with the learning rate and the seconds since the beginning; reports
in lines of their own. `curve` reads it as a table, without what the clock said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from harness.contracts.lesson import LOG
from harness.contracts.recipe import Recipe
from harness.contracts.table import Column, Table
from harness.disk.whole import disk_error, write_bytes
from harness.training.checkpoint import Checkpoint

CLOCK = "seconds"


class Log:
    """The log of a training that stands at `state`. What was written after that state is cut: it is written again."""

    def __init__(self, folder: Path, every: int, state: Checkpoint) -> None:
        self.file, self.every, self.state = folder / LOG, every, state
        self.last: dict[str, float] = {}
        if self.file.exists():
            kept = [row for row in read(self.file) if row["step"] <= state.step]
            write_bytes(self.file, "".join(map(_line, kept)).encode())

    def add(self, numbers: Mapping[str, float], rate: float, flush: bool) -> bool:
        """Note the numbers of the step that has just ended; whether a line was written. `flush`: write it now."""
        state = self.state
        state.window.append(dict(numbers))
        if state.step % self.every and not flush:
            return False
        self.last = means(state.window)
        self.write({"step": state.step, "lr": rate, CLOCK: state.spent, **self.last})
        state.window = []
        return True

    def write(self, row: Mapping[str, float]) -> None:
        """Append a line; it is on the disk before the checkpoint that follows it."""
        rounded = {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in row.items()}
        try:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(_line(rounded))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(self.file, error) from error

    def words(self, recipe: Recipe) -> str:
        """Where the training stands, for people."""
        left = self.state.spent / self.state.step * (recipe.steps - self.state.step)
        when = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
        return f"training {recipe.label}: step {self.state.step} of {recipe.steps}, loss {self.last['loss']:.3g}, {when} left"


def means(window: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every number over the steps that have it."""
    names = dict.fromkeys(name for row in window for name in row)
    return {n: sum(row[n] for row in window if n in row) / sum(n in row for row in window) for n in names}


def read(file: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last one that was torn by a crash is left out."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def curve(file: Path) -> Table:
    """The log as a table with one row for each step that it names; the same for a killed and for an uninterrupted training."""
    rows: dict[int, dict[str, float]] = {}
    for row in read(file):
        rows.setdefault(row["step"], {}).update(row)
    names = [name for name in dict.fromkeys(n for row in rows.values() for n in row) if name not in ("step", CLOCK)]
    columns = (Column("step", "position", meaning="updates of the weights done"), *(Column(name) for name in names))
    return Table(columns, tuple((step, *(_number(row.get(name)) for name in names)) for step, row in rows.items()))


def _number(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"
