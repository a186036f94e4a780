"""PAI, "Paying More Attention to Image" (Liu et al. 2024, arXiv 2407.21771): make the image columns louder.

Stage 1, before the softmax, in all heads of layers 2..31 of 32, for the last query row only (prefill and decode):

    S_j := S_j + alpha |S_j|     for image columns j.

Stage 2 (`gamma`; null: off): with c the log-probabilities of this stream and u those of the same prompt without
the image (a stream of its own, without the boost), the logits become gamma (c - u) + u, and tokens with
c < max(c) + log(cut) are ruled out. The authors recommend it mainly with nucleus sampling, and every command of their release turns it on
(`--use-cfg --gamma 1.1`), so it is the default here.

Published: alpha 0.5 LLaVA-1.5, 0.2 MiniGPT-4, 0.6 Shikra; gamma 1.1; cut 0.1; layers 2 to the top. Larger alpha costs
fluency. With guidance on, the release keeps the boost off until the first token is chosen, so a first token that is the
whole answer (POPE) never saw it: `release_quirk` does the same. Numbers of the release on POPE, and re-runs of it, are
those of the quirk.

Deviations: layers as shares of the depth; padded batches; under a beam search the second stream follows its beams (in
the release it does not). Cost: one row of scores next to SDPA; with stage 2 a second prefill and decode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.contracts.call import Call
from methods.weights.boost import RowBoost

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PAI(RowBoost):
    """Boosted image scores in the last row, optional guidance."""

    name = "pai"
    title = "PAI: louder image columns in the newest row"
    paper = "2407.21771"
    budget_unit = "boost of the image scores (alpha)"
    options = {"alpha": "share of |score| added to the image columns; 0: no boost"} | RowBoost.options

    alpha: float = 0.5

    def validate(self) -> None:
        super().validate()
        self.require(self.alpha >= 0, "alpha", "it cannot be negative")

    def boosts(self) -> bool:
        return self.alpha > 0

    def gains(self, ctx: Call) -> Tensor:
        assert ctx.image is not None
        return ctx.image * self.alpha
