"""Where a results folder stands, from its records alone: which cells are finished, at work, failed, or still to come.

Made for folders of many thousand cells that others are writing to. Whether a cell is damaged is what the reader of all commands
(`cells`) says; who looks again and again (`--watch`) has only those read anew of which a file changed. Of samples that are
still being written, at most the beginning is counted. Nothing here takes a lock for longer than a glance.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.board_rows import status_of
from harness.disk.locks import NAME as LOCK
from harness.disk.locks import is_held, locks_work
from harness.plan.planned import Planned, PlannedCell, read_plans
from harness.records.cells import CellRecord, read_cell
from harness.records.stored import estimated, holds_samples

STATES = ("finished", "running", "damaged", "failed", "refused", "stopped", "pending")
REASONED = ("damaged", "failed", "refused")  # what has a reason, the most urgent first
RECENT = 300.0  # seconds since the last write during which a cell counts as running where the file system has no locks


@dataclass(frozen=True)
class CellState:
    """`state`: one of `STATES` (`stopped`: begun, unfinished, and nobody works on it). `samples`: stored so far, `about`
    where that is an estimate; `wanted`: how many there will be, 0 if unknown. `active`: time of the last write (seconds
    since 1970), or None. `reason`: the first line of what failed, or what is damaged.
    """

    run_id: str
    model: str
    method: str
    task: str
    state: str
    samples: int = 0
    about: bool = False
    wanted: int = 0
    active: float | None = None
    reason: str = ""

    @property
    def label(self) -> str:
        return f"{self.model} / {self.method} / {self.task}"


@dataclass(frozen=True)
class SweepState:
    """The cells of one plan; `plan` is None for cells that belong to none."""

    plan: Planned | None
    cells: tuple[CellState, ...]

    @property
    def counts(self) -> Counter[str]:
        return Counter(cell.state for cell in self.cells)

    @property
    def active(self) -> float | None:
        """The last write to one of its cells."""
        return max((c.active for c in self.cells if c.active is not None), default=None)


def read_status(root: Path, now: float | None = None) -> list[SweepState]:
    """All plans below `root`, the one that was started last first, then cells without a plan. `now`: for tests."""
    now = time.time() if now is None else now
    runs = Path(root) / "runs"
    stored = {entry.name for entry in os.scandir(runs) if entry.is_dir()} if runs.is_dir() else set()
    known: dict[str, CellState] = {}
    found = []
    for plan in read_plans(root):
        for cell in plan.cells:
            if cell.run_id not in known:
                known[cell.run_id] = _look(runs / cell.run_id, cell, now) if cell.run_id in stored else _pending(cell)
        found.append(SweepState(plan, tuple(_labelled(known[c.run_id], c) for c in plan.cells)))
    others = sorted(stored - known.keys())
    if others:
        found.append(SweepState(None, tuple(_look(runs / name, None, now) for name in others)))
    return found


def _pending(cell: PlannedCell) -> CellState:
    return CellState(cell.run_id, cell.model, cell.method, cell.task, "pending", wanted=cell.n)


def _labelled(state: CellState, cell: PlannedCell) -> CellState:
    """Plans may call one cell by different labels."""
    if (state.model, state.method, state.task) == (cell.model, cell.method, cell.task):
        return state
    return CellState(**{**state.__dict__, "model": cell.model, "method": cell.method, "task": cell.task})


def _look(folder: Path, cell: PlannedCell | None, now: float) -> CellState:
    """The state of a cell that has a folder."""
    files = _files(folder)
    active = max((mtime for _, mtime in files.values()), default=None)
    record = _read(folder, files)
    labels = {"model": cell.model, "method": cell.method, "task": cell.task} if cell else _labels(record)
    common: dict[str, Any] = {"run_id": folder.name, "wanted": cell.n if cell else 0, "active": active, **labels}
    if record.done:
        return CellState(state="finished", **common)
    samples = {name: size for name, (size, _) in files.items() if holds_samples(name) and size}
    n, about = estimated(folder, samples)
    common |= {"samples": n, "about": about}
    if _at_work(folder, files, now):
        return CellState(state="running", **common)
    status, reason = status_of(record)
    if status != "unfinished":
        failure = record.metrics.get("failure") or {}
        return CellState(state=status, reason=_first_line(failure.get("message") or reason), **common)
    return CellState(state="stopped" if samples or cell is None else "pending", **common)


_known: dict[Path, tuple[Any, CellRecord]] = {}  # what the files of a cell looked like, and its record


def _read(folder: Path, files: Mapping[str, tuple[int, float]]) -> CellRecord:
    """The record of a cell. Its samples may grow meanwhile: they are no part of it until it is finished."""
    looks = sorted(item for item in files.items() if "DONE" in files or not holds_samples(item[0]))
    if folder not in _known or _known[folder][0] != looks:
        _known[folder] = looks, read_cell(folder)
    return _known[folder][1]


def _files(folder: Path) -> dict[str, tuple[int, float]]:
    """Size and time of the files; what disappears meanwhile is left out."""
    found = {}
    try:
        for entry in os.scandir(folder):
            try:
                about = entry.stat()
            except OSError:
                continue
            found[entry.name] = (about.st_size, about.st_mtime)
    except OSError:
        pass
    return found


def _at_work(folder: Path, files: Mapping[str, tuple[int, float]], now: float) -> bool:
    """Whether a process has the cell: by its lock; where a lock file is there and locks do not work, by recent writes."""
    if not any(name.startswith(LOCK) for name in files):
        return False
    if is_held(folder):
        return True
    return not locks_work(folder) and any(now - mtime < RECENT for _, mtime in files.values())


def _labels(record: CellRecord) -> dict[str, str]:
    return {key: record.labels.get(key, "?") for key in ("model", "method", "task")}


def _first_line(reason: str) -> str:
    return (reason.strip().splitlines() or [""])[0]


def reasons(cells: Iterable[CellState]) -> list[tuple[str, str, Sequence[CellState]]]:
    """(state, reason, cells) of what is damaged, failed or was refused, in this order, the most frequent first."""
    struck: dict[tuple[str, str], list[CellState]] = {}
    for cell in cells:
        if cell.state in REASONED:
            struck.setdefault((cell.state, cell.reason), []).append(cell)
    ordered = sorted(struck.items(), key=lambda item: (REASONED.index(item[0][0]), -len(item[1])))
    return [(state, reason, found) for (state, reason), found in ordered]
