"""What shapes a run and stays out of its identity; how a cell ended; what is told meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.asking.decoding import GREEDY, Decoding
from harness.plan.cells import Cell


@dataclass(frozen=True)
class RunSettings:
    """`share`: compute once what can be proven equal. `shard`: (i, n), this process computes the i-th of n parts of every
    cell's batches. `allow_errors`: samples that may fail in a cell before the cell has failed.
    """

    root: Path
    preset: str = "ci"
    limit: int | None = None
    efficiency: Literal["off", "quick", "full"] = "quick"
    batch_tokens: int = 8192
    lowering: str = "auto"
    decoding: Decoding = GREEDY
    share: bool = True
    shard: tuple[int, int] | None = None
    allow_errors: int = 0


@dataclass(frozen=True)
class Outcome:
    """How one cell ended: `done` now, `kept` from an earlier run, `partial` (other shards are at work on it), `busy`
    (another process has it), `refused` (the method cannot serve this model or search) or `failed`, with the reason.
    `bug`: it was nobody's mistake but ours or the method's; the reason holds the traceback.
    """

    cell: Cell
    status: str
    reason: str = ""
    bug: bool = False


class Progress:
    """What the loop reports while it works; the command line shows it as a bar, tests ignore it."""

    def start(self, label: str, tokens: int, done: int) -> None: ...
    def advance(self, tokens: int) -> None: ...
    def note(self, text: str) -> None: ...
    def tell(self, text: str) -> None: ...
    def finish(self, outcome: Outcome) -> None: ...
