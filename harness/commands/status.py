"""`heed status`: finished, running, damaged, failed, refused, stopped and pending cells, and what is learned or to be learned
for them, read from the records alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.errors import UserError
from harness.records.learned import FOLDER
from harness.report.lessons import LessonState, read_lessons
from harness.report.status import STATES, CellState, SweepState, read_status, reasons
from harness.terminal.columns import RULE
from harness.terminal.printing import Terminal
from harness.terminal.visible import plain

CELLS = 24  # unfinished cells of a sweep that are listed one by one; more are summed up
REASONS = 8  # reasons of failures that are shown
STYLES = {
    "finished": "green",
    "running": "cyan",
    "damaged": "red",
    "failed": "red",
    "refused": "yellow",
    "stopped": "magenta",
    "pending": "",
}


def show(overrides: Sequence[str], results: str, watch: float | None = None) -> int:
    """Print where the folder stands; with `watch`, again every so many seconds until nothing is running or pending."""
    if overrides:
        raise UserError(f"{overrides[0]}: heed status reads records and takes only results=DIR.")
    root = Path(results)
    if not any((root / name).is_dir() for name in ("runs", "plans", FOLDER)):
        raise UserError(
            f"results={root} holds no runs. Name the folder that `heed run` wrote to: heed status results=DIR."
        )
    console = Terminal()
    if watch is None:
        console.print(_page(read_status(root), read_lessons(root), time.time()))
        return 0
    from rich.live import Live

    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            found = read_status(root)
            live.update(_page(found, read_lessons(root), time.time()), refresh=True)
            if not any(sweep.counts[s] for sweep in found for s in ("running", "pending", "stopped")):
                return 0
            time.sleep(watch)


def _page(sweeps: Sequence[SweepState], lessons: Sequence[LessonState], now: float) -> RenderableType:
    parts: list[RenderableType] = [_total(sweeps), *_lessons(lessons), Text()]
    if sweeps:
        parts.append(_overview(sweeps, now))
    for sweep in sweeps:
        parts += _details(sweep, now)
    return Group(*parts)


def _total(sweeps: Sequence[SweepState]) -> Text:
    cells = {c.run_id: c for sweep in sweeps for c in sweep.cells}
    counts = Counter(c.state for c in cells.values())
    text = Text(f"{len(cells)} cells: ")
    words = [Text(f"{counts[s]} {s}", style=STYLES[s]) for s in STATES if counts[s]]
    return text + Text(", ").join(words or [Text("nothing yet")])


def _lessons(lessons: Sequence[LessonState]) -> list[Text]:
    """How many are learned, and in a line each those that are not."""
    if not lessons:
        return []
    counts = Counter(lesson.state for lesson in lessons)
    open_ones = [lesson for lesson in lessons if lesson.state != "learned"]
    lines = [
        Text(
            f"{len(lessons)} lesson{'s' * (len(lessons) > 1)}: "
            + ", ".join(f"{n} {state}" for state, n in counts.items())
        )
    ]
    for lesson in open_ones[:CELLS]:
        style = "red" if lesson.state == "damaged" else "cyan" if lesson.state == "being learned" else ""
        said = lesson.reason or lesson.last
        why = f": {plain(said)}" if said else ""
        lines.append(Text(f"{lesson.state} ", style=style) + Text(f"{plain(lesson.label)}{why}"))
    return lines + ([Text(f"... and {len(open_ones) - CELLS} more lessons")] if len(open_ones) > CELLS else [])


def _overview(sweeps: Sequence[SweepState], now: float) -> Table:
    states = _seen(c for sweep in sweeps for c in sweep.cells)
    table = _table("sweep", "cells", *states, "last write")
    for sweep in sweeps:
        table.add_row(
            Text(_name(sweep)), str(len(sweep.cells)), *_numbers(sweep.counts, states), _ago(sweep.active, now)
        )
    return table


def _seen(cells: Iterable[CellState]) -> list[str]:
    """The states that occur: the others would only take the room."""
    present = {c.state for c in cells}
    return [s for s in STATES if s in present]


def _numbers(counts: Counter[str], states: Sequence[str]) -> list[Text]:
    return [Text(str(counts[s]), style=STYLES[s]) if counts[s] else Text("-", style="dim") for s in states]


def _name(sweep: SweepState) -> str:
    return plain(sweep.plan.name) if sweep.plan else "(without a plan)"


def _details(sweep: SweepState, now: float) -> list[RenderableType]:
    """What is not finished: cell by cell, or, of many, those at work and the rest by model and task."""
    open_cells = [c for c in sweep.cells if c.state != "finished"]
    if not open_cells:
        return []
    command = f": heed {' '.join(map(plain, sweep.plan.command))}" if sweep.plan and sweep.plan.command else ""
    parts: list[RenderableType] = [Text(), Text(_name(sweep), style="bold") + Text(command, style="dim")]
    if len(open_cells) <= CELLS:
        parts.append(_cells(open_cells, now))
    else:
        running = [c for c in open_cells if c.state == "running"]
        if running:
            parts.append(_cells(running[:CELLS], now))
        if len(running) > CELLS:
            parts.append(Text(f"... and {len(running) - CELLS} more running cells"))
        parts.append(_sums(sweep.cells))
    return parts + _reasons(open_cells)


def _cells(cells: Sequence[CellState], now: float) -> Table:
    table = _table("cell", "state", "samples", "last write", left=2)
    order = {state: i for i, state in enumerate(("running", "damaged", "failed", "stopped", "refused", "pending"))}
    for cell in sorted(cells, key=lambda c: order[c.state]):
        table.add_row(
            Text(plain(cell.label)), Text(cell.state, style=STYLES[cell.state]), _progress(cell), _ago(cell.active, now)
        )
    return table


def _progress(cell: CellState) -> str:
    """`12 of 40`, `about 81000`, or `-` where nothing is known."""
    if not cell.samples and not cell.wanted:
        return "-"
    so_far = f"{'about ' if cell.about else ''}{cell.samples}"
    return f"{so_far} of {cell.wanted}" if cell.wanted else so_far


def _sums(cells: Sequence[CellState]) -> Table:
    by_both: dict[tuple[str, str], list[CellState]] = {}
    for cell in cells:
        by_both.setdefault((cell.model, cell.task), []).append(cell)
    if len(by_both) <= CELLS:
        groups = {f"{model} / {task}": found for (model, task), found in by_both.items()}
    else:
        groups = {}
        for (model, _), found in by_both.items():
            groups.setdefault(model, []).extend(found)
    states = _seen(cells)
    table = _table("model / task" if len(by_both) <= CELLS else "model", "cells", *states)
    for name, found in list(groups.items())[:CELLS]:
        table.add_row(Text(plain(name)), str(len(found)), *_numbers(Counter(c.state for c in found), states))
    if len(groups) > CELLS:
        table.add_row(Text(f"... and {len(groups) - CELLS} more"), *[""] * (len(states) + 1))
    return table


def _reasons(cells: Sequence[CellState]) -> list[RenderableType]:
    found = reasons(cells)
    parts: list[RenderableType] = []
    for state, reason, struck in found[:REASONS]:
        more = f" and {len(struck) - 1} more" if len(struck) > 1 else ""
        parts.append(Text(f"{state} {plain(struck[0].label)}{more}: ", style=STYLES[state]) + Text(plain(reason)))
    if len(found) > REASONS:
        parts.append(Text(f"... and {len(found) - REASONS} more reasons"))
    return parts


def _table(*heads: str, left: int = 1) -> Table:
    table = Table(box=RULE, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i < left else "right", overflow="fold", no_wrap=i > 0)
    return table


def _ago(then: float | None, now: float) -> str:
    """How long ago, in the unit that people would take.

    >>> _ago(0, 42), _ago(0, 600), _ago(0, 7300), _ago(None, 0)
    ('42 s ago', '10 min ago', '2 h ago', '-')
    """
    if then is None:
        return "-"
    seconds = max(0.0, now - then)
    for unit, size in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 120 * size or (unit == "h" and seconds < 48 * 3600):
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds / 86400:.0f} days ago"
