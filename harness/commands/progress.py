"""The progress of a run on the terminal: a bar per cell with tokens per second and time left."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from harness.running.settings import Outcome, Progress


class _Rate(ProgressColumn):
    """Prompt and new tokens per second."""

    def render(self, task: Any) -> Text:
        return Text(f"{task.speed:,.0f} tok/s" if task.speed else "- tok/s", style="progress.data.speed")


class Bar(Progress):
    """One line per cell: a live bar while it runs, a plain line when it is over (also in a log file)."""

    def __init__(self, console: Console, n_cells: int) -> None:
        self._console, self._n, self._seen = console, n_cells, 0
        self._task: TaskID | None = None
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"),
            _Rate(), TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, label: str, tokens: int, done: int) -> None:
        self._clear()
        self._task = self._bar.add_task(f"[{self._seen + 1}/{self._n}] {label}", total=tokens, completed=done)

    def advance(self, tokens: int) -> None:
        if self._task is not None:
            self._bar.advance(self._task, tokens)

    def note(self, text: str) -> None:
        """What happens beside the samples: loading, preparing data, measuring speed."""
        if self._task is None:
            self._task = self._bar.add_task(text, total=None)
        else:
            self._bar.update(self._task, description=text)

    def tell(self, text: str) -> None:
        """What stays to be read, also in a log file."""
        self._console.print(text, soft_wrap=True)

    def finish(self, outcome: Outcome) -> None:
        self._clear()
        self._seen += 1
        if outcome.status != "kept":
            line = f"[{self._seen}/{self._n}] {outcome.cell.label}: {outcome.status}"
            self._console.print(line)

    def _clear(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
