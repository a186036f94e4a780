"""PAINT, "Fixing Imbalanced Attention" (arXiv 2501.12206): PAI with two kinds of image tokens and a gain for each.

The vision tower chooses them. From the attention of its CLS row to the patches, summed over heads,

    local   = the top `ratio` of the patches in the first layer, less the summary tokens,
    summary = the outliers of the penultimate layer: value > Q3 + 1.5 (Q3 - Q1).

Then, in the last query row of layers 2..31 of 32, S_j += alpha |S_j| for local j and S_j += beta |S_j| for summary j.
Stage 2 (`gamma`; null: off) and `release_quirk` are PAI's, see there.

This is what the released code does (alpha 0.7, beta 0.3, ratio 0.25; gamma 1.1 in its scripts, 2 in its code). Reported
on 500 images of COCO: CHAIR_S 18.0 with beta 0.3, 17.6 at the best setting, beta 0.4. Two things in the abstract are not
in the code and are not done here: gains per head and learned margins. "Spatial" tokens are left out: the release ranks
the row sums of a softmax, which are all 1. The useful alpha is a narrow window (below 0.6 nothing, above 0.8 short broken
text), so read it with the length of the answers.

Needs a tower with a CLS row whose patches are the image tokens, in order (CLIP in LLaVA-1.5); others are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.contracts.call import Call, Request
from harness.errors import UserError
from methods.weights.boost import RowBoost

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

FIRST, PENULTIMATE = 0, -2  # layers of the vision tower


@dataclass(frozen=True, kw_only=True)
class Paint(RowBoost):
    """Two gains for local and summary tokens of the image."""

    name = "paint"
    title = "PAINT: louder local and summary tokens of the image"
    paper = "2501.12206"
    budget_unit = "boost of the local tokens (alpha)"
    options = {
        "alpha": "share of |score| added to the local tokens",
        "beta": "share of |score| added to the summary tokens",
        "ratio": "share of the patches that are local tokens",
    } | RowBoost.options

    alpha: float = 0.7
    beta: float = 0.3
    ratio: float = 0.25

    def validate(self) -> None:
        super().validate()
        self.require(self.alpha >= 0, "alpha", "it cannot be negative")
        self.require(self.beta >= 0, "beta", "it cannot be negative")
        self.require(0 <= self.ratio <= 1, "ratio", "it is a share between 0 and 1")

    def check(self, view: Model) -> None:
        super().check(view)
        if view.vision is not None and not view.vision.maps_patches():
            raise UserError(
                "Method 'paint' marks image tokens by the vision tower's own attention, which needs a class token and one "
                f"image token for each patch (LLaVA-1.5). Model '{view.name}' lays its pictures out in another way."
            )

    def boosts(self) -> bool:
        return (self.alpha > 0 and self.ratio > 0) or self.beta > 0

    def begin(self, request: Request) -> None:
        super().begin(request)
        if not self.boosts():
            return
        image = request.inputs.image
        assert image is not None
        first, late = (
            x[:, :, 0, 1:].float().sum(1).to(image.device) for x in request.vision_attention([FIRST, PENULTIMATE])
        )
        if first.shape[0] != len(image) or (image.sum(1) != first.shape[1]).any():
            raise UserError(
                f"Method 'paint' marks one image token for each patch of the vision tower, but {first.shape[0]} pictures "
                f"of {first.shape[1]} patches became {image.sum(1).tolist()} image tokens. It serves one picture in "
                "each prompt, on models that keep every patch (LLaVA-1.5)."
            )
        local, summary = token_sets(first, late, self.ratio)
        request.state["gains"] = on_columns(image, local * self.alpha + summary * self.beta)
        request.state["found"] = local.sum(1), summary.sum(1)

    def gains(self, ctx: Call) -> Tensor:
        import torch.nn.functional as F

        assert ctx.image is not None and ctx.request is not None
        local, summary = ctx.request.state["found"]
        ctx.count("local_tokens", local)
        ctx.count("summary_tokens", summary)
        gains = ctx.rows(ctx.request.state["gains"], ctx.image.shape[0])
        return F.pad(gains, (0, ctx.image.shape[1] - gains.shape[1]))


def token_sets(first: Tensor, late: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """(local, summary) bool `[B, P]` from the CLS attention to P patches in the first and the penultimate layer."""
    import torch

    quarter, half = (late.quantile(q, dim=-1, keepdim=True) for q in (0.25, 0.75))
    summary = late > half + 1.5 * (half - quarter)
    best = first.topk(int(ratio * first.shape[-1]), dim=-1).indices
    local = torch.zeros_like(summary).scatter(1, best, True)
    return local & ~summary, summary


def on_columns(image: Tensor, values: Tensor) -> Tensor:
    """`[B, T]`: values `[B, P]` of the patches at the image columns (bool `[B, T]`, P in each row), in order."""
    return values.new_zeros(image.shape).masked_scatter(image, values)
