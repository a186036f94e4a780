"""Small probes of text models: one that looks as it should, and some that do not; and methods that learn from them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.contracts.asker import Answer
from harness.contracts.call import Call, Request
from harness.contracts.example import Example
from harness.contracts.lesson import Calibration, Learned
from harness.contracts.method import Method
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

    def rows(self, example: Example, request: Request, answer: Answer) -> Iterable[Row]:
        if example.id == os.environ.get(STOP):
            os.kill(os.getpid(), signal.SIGKILL)
        return [(layer, head, w) for layer, weights in request.state.items() for head, w in enumerate(weights)]

    def conclude(self, rows: Sequence[Sequence[Row]]) -> Learned:
        """Beside the means by layer and head the mean of all, for methods."""
        import torch

        table = super().conclude(rows).tables["mean"]
        return Learned({"weight": torch.tensor(table.values("weight")).mean()}, {"mean": table})


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

    def rows(self, example: Example, request: Request, answer: Answer) -> Iterable[Row]:
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

    def rows(self, example: Example, request: Request, answer: Answer) -> Iterable[Any]:
        return [(0, float("nan"))]


# ---- what is learned from them


@dataclass(frozen=True, kw_only=True)
class Damped(Method):
    """Weakens attention by as much as one key was seen to hold of it."""

    name = "damped"
    title = "attention without its largest weight"
    paper = "own"

    looks: ClassVar[Probe] = Peak()
    on: ClassVar[str] = "tests.faults.toys.Toy"

    def lesson(self) -> Calibration:
        return Calibration(self.looks, {"_target_": self.on}, most=3)

    def attn_out(self, ctx: Call, a: Tensor) -> Tensor:
        assert ctx.request is not None
        return a * (1 - ctx.request.artifact["weight"]).to(a)


@dataclass(frozen=True, kw_only=True)
class Misled(Damped):
    """Learns from a probe that changes what it sees."""

    name = "misled"
    looks = Meddler()


@dataclass(frozen=True, kw_only=True)
class Scattered(Damped):
    """Learns on questions of several prompts."""

    name = "scattered"
    on = "tests.asking.sixth.Repeats"
