"""Small probes of text models: one that looks as it should, and some that do not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.contracts.asker import Answer
from harness.contracts.call import Call, Request
from harness.contracts.example import Example
from harness.contracts.probe import Probe
from harness.contracts.table import Column, Row

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

STOP = "HEED_TOY_STOP"  # in the environment: the example at which the process is killed


@dataclass(frozen=True, kw_only=True)
class Peak(Probe):
    """The largest attention weight of the last prompt token, by layer and head."""

    name = "peak"
    title = "largest weight of the last prompt token"
    paper = "own"
    phases = frozenset({"prefill"})
    columns = (
        Column("layer", "layer"),
        Column("head", "head"),
        Column("weight", unit="share", meaning="largest weight"),
    )

    def probs(self, ctx: Call, a: Tensor) -> Tensor | None:
        if ctx.request is not None:
            ctx.request.state[ctx.layer] = a[0, :, -1].amax(-1).tolist()
        return None

    def rows(self, example: Example, request: Request, answer: Answer | None) -> Iterable[Row]:
        if example.id == os.environ.get(STOP):
            os.kill(os.getpid(), signal.SIGKILL)
        return [(layer, head, w) for layer, weights in request.state.items() for head, w in enumerate(weights)]


@dataclass(frozen=True, kw_only=True)
class Meddler(Peak):
    """Changes what it sees."""

    name = "meddler"

    def mlp_out(self, ctx: Call, m: Tensor) -> Tensor | None:
        return m * 1.5


@dataclass(frozen=True, kw_only=True)
class Sleeper(Peak):
    """Looks at decoding in layers that are never shown to it."""

    name = "sleeper"
    phases = frozenset({"decode"})

    def layers(self, view: Model) -> list[int]:
        return list(range(view.n_layers + 1))


@dataclass(frozen=True, kw_only=True)
class Blind(Probe):
    """Never sees anything."""

    name = "blind"
    columns = (Column("layer", "layer"), Column("weight"))

    def rows(self, example: Example, request: Request, answer: Answer | None) -> Iterable[Row]:
        return []


@dataclass(frozen=True, kw_only=True)
class Picky(Blind):
    """Looks for examples that no task has."""

    name = "picky"
    wants = "an example about unicorns"

    def reads(self, example: Example) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Sloppy(Blind):
    """Gives rows that its columns cannot hold."""

    name = "sloppy"

    def rows(self, example: Example, request: Request, answer: Answer | None) -> Iterable[Any]:
        return [(0, float("nan"))]
