"""VHR (He et al. 2024, arXiv 2412.13949): scale up the heads whose output depends most on the image.

With A_{l,i} the output of head i in layer l at the last prompt position, the vision-aware head divergence is

    VHD_{l,i} = | A_{l,i}(with image) - A_{l,i}(text only) |.

A head whose VHD and whose |A_{l,i}(text only)|^2 both exceed mean + std over the heads of its layer is taken out
(VHD := 0). Heads above the layer's median are multiplied by `alpha` before the output projection. The choice is made
per sample at the first generated token, layer by layer with the lower layers already reinforced, and kept for the rest
of the answer.

Published: alpha 2; layers 1 and 18..31 of 32 for LLaVA-1.5 and LLaVA-NeXT (`last: 0.4375`, `second: true`), the last 18
alone, 14..31, for InstructBLIP (`last: 0.5625`, `second: false`). Left null, both options are those of the model's
family, and LLaVA's for all others. Layer 1 helps captions and is unstable elsewhere; alpha 4 breaks the text.

Ours, where the paper is silent: all prompt positions are scaled in the prefill, so that cached keys agree with decode;
the text-only pass is plain (not itself reinforced) and drops the image placeholder, nothing else; std is the
population's; in other depths `last` is a share of the layers. One extra text-only prefill, then a multiplication.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.contracts.call import Call, Request
from harness.contracts.method import Method
from harness.errors import UserError
from methods.activations.capture import Capture

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

LLAVA = (14 / 32, True)  # (last, second)
PUBLISHED = {"instructblip": (18 / 32, False)}  # by family


@dataclass(frozen=True, kw_only=True)
class HeadReinforcement(Method):
    """Vision-aware head reinforcement."""

    name = "vhr"
    title = "VHR: vision-aware head reinforcement"
    paper = "2412.13949"
    needs = frozenset({"images"})
    budget_unit = "factor of the chosen heads"
    options = {
        "alpha": "factor of the chosen heads; 1 changes nothing",
        "last": "share of the layers, counted from the top, that are reinforced; null: 14/32, for InstructBLIP 18/32",
        "second": "whether the second layer (index 1) is reinforced too; null: true, for InstructBLIP false",
        "outliers": "whether heads that are large without the image are left out, as published",
    }

    alpha: float = 2.0
    last: float | None = None
    second: bool | None = None
    outliers: bool = True

    def validate(self) -> None:
        self.require(self.alpha >= 0, "alpha", "a factor below 0 turns heads around")
        self.require(self.last is None or 0 <= self.last <= 1, "last", "it is a share between 0 and 1")
        self.require(self.second is not False or self.last != 0, "last", "no layer is left")

    def check(self, view: Model) -> None:
        if not self.layers(view):
            raise UserError(f"method.vhr.last is {self.last}: of {view.n_layers} layers none is left; raise it.")

    def layers(self, view: Model) -> list[int]:
        last, second = PUBLISHED.get(view.family, LLAVA)
        last = last if self.last is None else self.last
        return reinforced(view.n_layers, last, second if self.second is None else self.second)

    def begin(self, request: Request) -> None:
        blind = Capture(what=("heads",))
        request.forward(request.without_image(), under=blind)
        request.state["blind"] = blind.stack("heads").float()  # [B, L, H, D]

    def heads(self, ctx: Call, z: Tensor) -> Tensor | None:
        request = ctx.request
        if self.alpha == 1 or request is None or "blind" not in request.state or ctx.layer not in self.layers(ctx.view):
            return None
        import torch

        key = ("chosen", ctx.layer)
        if key not in request.state:
            blind = request.state["blind"][:, ctx.layer].to(z.device)
            seen = z[:: z.shape[0] // blind.shape[0], -1].float()  # beams repeat a sample
            divergence = head_divergence(seen, blind)
            chosen = request.state[key] = above_median(divergence, blind, self.outliers)
            ctx.count("heads", chosen)
            ctx.count("divergence", divergence)
        chosen = ctx.rows(request.state[key], z.shape[0])[:, None, :, None]
        return torch.where(chosen, z * self.alpha, z)


def head_divergence(seen: Tensor, blind: Tensor) -> Tensor:
    """VHD `[B, H]` of head outputs `[B, H, D]` with and without the image."""
    return (seen - blind).norm(dim=-1)


def above_median(divergence: Tensor, blind: Tensor, outliers: bool = True) -> Tensor:
    """bool `[B, H]`: heads above the median of VHD `[B, H]`, outliers (see `blind` `[B, H, D]`) zeroed before."""
    if outliers:
        divergence = divergence.masked_fill(stands_out(divergence) & stands_out(blind.square().sum(-1)), 0)
    return divergence > divergence.quantile(0.5, dim=-1, keepdim=True)


def stands_out(x: Tensor) -> Tensor:
    """Where x `[B, H]` exceeds the mean by more than one population standard deviation."""
    return x > x.mean(-1, keepdim=True) + x.std(-1, correction=0, keepdim=True)


def reinforced(n_layers: int, last: float, second: bool) -> list[int]:
    """Layer 1 and the top share `last` of the layers."""
    top = range(n_layers - round(last * n_layers), n_layers)
    return sorted({*top, *([1] if second and n_layers > 1 else [])})
