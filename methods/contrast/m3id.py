"""M3ID (Favero et al. 2024, arXiv 2403.14003): the longer the answer, the more the picture is brought back.

The second stream has no picture. With c, u the log-probabilities of the two streams and t = 1 at the first new token,

    out = c + (1 - g_t) / g_t (c - u),   g_t = exp(-lam t).

Default: as in the common re-implementation (AvisC): always on, with VCD's cut (-inf where `c < max c + log cut`), lam
0.02, cut 0.1. `gate` is the rule of the original as we understand it: correct only where the largest probability is
below it (no published value is known to us, and the rule is unverified: say so next to results; its cut is `cut=0`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from harness.contracts.call import Call, Request
from harness.contracts.options import Within
from methods.contrast.two_stream import TwoStream, cut, image_gain

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.inputs import Inputs


@dataclass(frozen=True, kw_only=True)
class M3ID(TwoStream):
    """Contrast with the text alone, growing with the length of the answer."""

    name = "m3id"
    title = "M3ID: image gain that grows with the answer"
    paper = "2403.14003"
    budget_unit = "forgetting rate (lam)"
    options = {
        "lam": "rate at which the picture is assumed to be forgotten, per token; 0 corrects nothing",
        "cut": "tokens below cut times the largest probability are ruled out; 0 keeps all",
        "gate": "correct only where the largest probability is below it; null: always",
    }

    lam: Annotated[float, Within(0, 1000)] = 0.02
    cut: float = 0.1
    gate: float | None = None

    def validate(self) -> None:
        self.require(self.lam >= 0, "lam", "it cannot be negative")
        self.require(0 <= self.cut <= 1, "cut", "it is a share of the largest probability, 0 to 1")
        self.require(self.gate is None or 0 < self.gate <= 1, "gate", "it is a probability, or null")

    def negatives(self, request: Request) -> tuple[Inputs, ...]:
        return (request.without_image(),)

    def combine(self, ctx: Call, main: Tensor, other: Tensor) -> Tensor:
        c = main.log_softmax(-1)
        out = cut(image_gain(c, other.log_softmax(-1), ctx.step + 1, self.lam), c, self.cut)
        return out if self.gate is None else out.where(c.amax(-1, keepdim=True).exp() < self.gate, c)
