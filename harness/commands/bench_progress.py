"""The progress of a bench on the terminal: one bar over all requests, with the point and the method at work."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from harness.efficiency.bench_settings import BenchSettings


class Bar:
    """Points are of unequal length, so the bar counts points and says how far the present one is."""

    def __init__(self, console: Console, settings: BenchSettings, n_methods: int) -> None:
        self._console, self._points, self._requests = console, settings.points, n_methods * (settings.repeats + 1)
        self._seen: dict[tuple[int, int], int] = {}
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=len(self._points))

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tick(self, n: int, batch: int, label: str) -> None:
        """One more request (or warm-up) of a method is over."""
        point = (n, batch)
        if point not in self._seen and not self._console.is_terminal:
            self._console.print(f"{n} tokens x {batch}")
        self._seen[point] = self._seen.get(point, 0) + 1
        done = self._points.index(point) + min(self._seen[point] / self._requests, 1.0)
        self._bar.update(self._task, completed=done, description=f"{n:,} tokens x {batch}: {label}")
