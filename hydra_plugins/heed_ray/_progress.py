"""What the submitting process shows of a sweep: one live line of counts, and a plain line for every job that ended."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from harness.terminal.printing import Terminal


class Line:
    """Jobs done, running, failed and waiting. In a log file there is no live line."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        self._console = console or Terminal()
        self._total, self._running, self._done, self._failed = total, 0, 0, 0
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TimeElapsedColumn(), console=self._console,
            transient=True, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Line:
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def show(self, running: int) -> None:
        """Renew the counts."""
        self._running = running
        waiting = self._total - self._done - self._failed - running
        text = f"jobs: {self._done} done, {running} running, {self._failed} failed, {waiting} waiting"
        self._bar.update(self._task, description=text, completed=self._done + self._failed)

    def end(self, label: str, how: str, well: bool) -> None:
        """A job has ended, and `how`."""
        self._done, self._failed = self._done + well, self._failed + (not well)
        self.tell(f"[{self._done + self._failed}/{self._total}] {label}: {how}", style=None if well else "red")

    def tell(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, soft_wrap=True)
