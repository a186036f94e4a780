"""VAF, "ClearSight" (arXiv 2503.13107): in middle layers, the image louder and what comes before it quieter.

In all heads of layers 9..14 of 32, for every query row after the image (prefill and decode), before the softmax:

    S_j := enhance S_j   for image columns j,      S_j := suppress S_j   for columns before the image (system prompt).

Scores are signed, so a negative one moves the other way; that is how it was published. Defaults of the release:
enhance 1.15, suppress 0.95.

Ours: layers as shares of the depth; with several pictures "before" means before the first one, and the rows after the
last one are edited. Cost: the scores of all rows after the image next to SDPA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.contracts.call import Call
from methods.weights.depth import InLayers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class VAF(InLayers):
    """Visual amplification: two factors on the scores of middle layers."""

    name = "vaf"
    title = "VAF: image scores amplified in middle layers"
    paper = "2503.13107"
    needs = frozenset({"images"})
    query_rows = "after_image"
    budget_unit = "factor of the image scores (enhance)"
    prefix_safe = True  # rows up to the end of the image are the model's own
    options = {
        "enhance": "factor of the scores of image columns; 1: none",
        "suppress": "factor of the scores of the columns before the image; 1: none",
    } | InLayers.options

    enhance: float = 1.15
    suppress: float = 0.95
    first_layer: float = 0.28125
    last_layer: float = 0.4375

    def validate(self) -> None:
        super().validate()
        self.require(self.enhance > 0, "enhance", "a factor is positive")
        self.require(self.suppress > 0, "suppress", "a factor is positive")

    def idle(self, n: int) -> str:
        return "" if (self.enhance, self.suppress) != (1, 1) else "both factors are 1"

    def scores(self, ctx: Call, s: Tensor) -> Tensor | None:
        if ctx.image is None or self.idle(s.shape[-1]) or ctx.layer not in self.span(ctx.view.n_layers):
            return None
        return s * factors(ctx.image, self.enhance, self.suppress).to(s)[:, None, None]

    def probs(self, ctx: Call, a: Tensor) -> None:
        """Only watches."""
        if ctx.image is not None and ctx.layer in self.span(ctx.view.n_layers):
            ctx.count("image_mass", a @ ctx.image.to(a)[:, None, :, None])


def factors(image: Tensor, enhance: float, suppress: float) -> Tensor:
    """Factor `[B, n_k]` (float32) of every column: image bool `[B, n_k]`; "before" is before the row's first image token."""
    started = image.int().cummax(-1).values.bool()
    return image * (enhance - 1.0) + ~started * (suppress - 1.0) + 1.0
