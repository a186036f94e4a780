"""CCA (Xing et al. 2024, arXiv 2410.15926): concentric causal attention, image tokens in rings from the border inwards.

On an h x w grid of image tokens the ring of a token is r(i, j) = min(i, j, h-1-i, w-1-j). Positions: text before the
image 0 .. s-1, an image token s + r, text after the image goes on at s + (number of rings), so an instruction is near
every image token. Mask: among image tokens a query reads the keys with r(key) <= r(query), so a ring sees itself in
both directions, the centre sees everything and the border only itself; text stays causal. The next token continues with
the last position + 1: on a G x G grid the token at column t has position t - G^2 + G/2.

**The method is trained** (LLaVA-1.5's recipe from Vicuna; a checkpoint is published as xing0047/cca-llava-1.5-7b). On a
model that was trained in raster order it is out of distribution and stands for an ablation: `trained: false`, the
default, says so in the records. Setting `trained: true` states a fact about the checkpoint and changes no number.

Ours: any grid (the paper: square and even); `parts` for positions or mask alone; a batch of images (the release keeps
the last sample's positions only). Models with two-dimensional positions (Qwen2-VL) can use the mask alone; several
images, and tiles with line breaks between them (LLaVA-NeXT), have no single grid and are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.contracts.call import Call, Request
from harness.contracts.method import Method
from harness.errors import UserError
from methods.inputs.grid import base_grid, layout, refuse

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model


@dataclass(frozen=True, kw_only=True)
class ConcentricCausal(Method):
    """Ring positions and ring mask of image tokens."""

    name = "cca"
    title = "CCA: concentric causal attention (untrained, unless the checkpoint was trained with it)"
    paper = "2410.15926"
    needs = frozenset({"images"})
    budget_unit = "parts of the method that are applied"
    options = {
        "parts": "both, positions or mask: what is changed for image tokens",
        "trained": "whether the checkpoint was trained with it; a statement for the records, it changes nothing",
    }

    parts: Literal["both", "positions", "mask"] = "both"
    trained: bool = False

    def validate(self) -> None:
        self.require(self.parts in ("both", "positions", "mask"), "parts", "it is 'both', 'positions' or 'mask'")

    def check(self, view: Model) -> None:
        refuse(view, self.name, "Queries", "Tiles")
        if self.parts != "mask" and layout(view) == "Merged":
            raise UserError(
                f"Method 'cca' cannot place the image tokens of model '{view.name}': its positions are two-dimensional "
                "already. Use method.cca.parts=mask."
            )

    def begin(self, request: Request) -> dict[str, Any]:
        import torch

        inputs = request.inputs
        assert inputs.image is not None
        rows = [rings(*base_grid(request.view, s, self.name)) for s in inputs.samples]
        ring = torch.full_like(inputs.ids, -1)
        ring[inputs.image] = torch.cat(rows).to(ring.device)
        request.state["ring"] = ring  # [B, T]; -1: text
        return {} if self.parts == "mask" else {"positions": positions(ring, inputs.mask)}

    def mask(self, ctx: Call, shown: Tensor) -> Tensor | None:
        if ctx.phase == "decode" or ctx.request is None or "ring" not in ctx.request.state:
            return None
        if self.parts == "positions":
            return shown
        if "pairs" not in ctx.store:
            ring = ctx.rows(ctx.request.state["ring"], shown.shape[0]).to(shown.device)
            ctx.store["pairs"] = ring_pairs(ring)
            ctx.count("rings", ring.amax(1) + 1)
        among, inward = ctx.store["pairs"]
        return (shown & ~among) | inward


def rings(h: int, w: int) -> Tensor:
    """int64 `[h * w]`: distance of each token of a grid from the border, row by row."""
    import torch

    rows, columns = torch.arange(h)[:, None], torch.arange(w)[None]
    down, across = torch.minimum(rows, h - 1 - rows), torch.minimum(columns, w - 1 - columns)
    return torch.minimum(down, across).flatten()


def positions(ring: Tensor, mask: Tensor) -> Tensor:
    """int64 `[B, T]`: position of every token, from its ring (-1: text) and the mask of a left-padded batch."""
    import torch

    image = ring >= 0
    text = (mask.bool() & ~image).long().cumsum(1)  # text tokens so far, this one included
    seen = image.long().cumsum(1) > 0
    n_rings = ring.amax(1, keepdim=True) + 1
    return torch.where(image, text + ring, text - 1 + seen * n_rings).clamp(min=0)


def ring_pairs(ring: Tensor) -> tuple[Tensor, Tensor]:
    """bool `[B, 1, T, T]` twice: pairs of image tokens, and those whose key lies in the query's ring or outside it."""
    query, key = ring[:, None, :, None], ring[:, None, None, :]
    among = (query >= 0) & (key >= 0)
    return among, among & (key <= query)
