"""VAR, "See What You Are Told" (Kang et al. 2025, arXiv 2503.03321): attention that image sinks soak up goes to the rest
of the image.

Sink tokens carry the massive activations of the first token. In the residual stream x that enters layer l,

    phi_j = max_{k in D_sink} |x_j[k]| / sqrt(mean(x_j^2) + 1e-6);      sinks I = { j of the prompt : phi_j > tau },

found in the prefill and kept for the answer; I^v are those on the image V. A head is redistributed in a query row if

    sum_V A_j >= mass     and     sum_{I^v} A_j / sum_V A_j  <=  1 - rho.

There, with weights A after the softmax, A_j := (1 - q) A_j on all sinks (text sinks too), and what they lost goes to
the image tokens that are no sinks, in proportion to their weight; all else stays, and rows keep their sum. Rows: those
after the image, and every decode step. A layer without an image sink is left alone.

Published: tau 20, mass 0.2, rho 0.5 for hallucination tasks, layers 2 and up. `mode` decides where paper and release
differ: **paper** q 0.6, not in the top layer; **release** q 0.4, the condition is <= rho, the top layer too. The release
also keeps the sinks of its first sample for all others and then edits rows before the image as well; a defect, not
reproduced in any mode, and neither are its half-precision weights.

`sink_dims`: channels of the massive activations; (1415, 2533) for LLaMA-2-7B, (2100, 4743) for 13B, (458, 2570) for
Qwen2-VL-7B. A secondary summary of the paper adds rho 0.8 for general and 0.9 for vision-centric benchmarks, phi >= tau
(here >, which differs at tau alone), and channel (3584,) for InternVL2-8B, a family that is not served here; none of it
was read in the paper. Ours: null finds them in each request and layer, as the channels in which the first token of the
prompt exceeds tau; phi cannot exceed sqrt(width), so a narrow model needs a lower tau. Layers are shares of the depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Literal

from harness.contracts.call import Call
from harness.errors import UserError
from methods.weights.depth import InLayers

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

SHARE = {"paper": 0.6, "release": 0.4}
TOP = {"paper": -2, "release": -1}


@dataclass(frozen=True, kw_only=True)
class VAR(InLayers):
    """Visual attention redistribution."""

    name = "var"
    title = "VAR: attention moved from image sinks to the rest of the image"
    paper = "2503.03321"
    needs = frozenset({"images"})
    query_rows = "after_image"
    budget_unit = "share of the sinks' attention that is moved (q)"
    options = {
        "mode": "paper or release, where they differ",
        "q": "share of the sinks' attention that is moved; null: 0.6 in paper mode, 0.4 in release mode",
        "rho": "least share of a head's image attention outside sinks (paper), most share on sinks (release)",
        "mass": "least attention to the image for a head to be redistributed",
        "tau": "a token is a sink if phi exceeds it; below sqrt(width)",
        "sink_dims": "channels of the massive activations; null: found from the first token of each prompt",
    } | InLayers.options
    options["last_layer"] += "; null: -2 in paper mode, -1 in release mode"

    mode: Literal["paper", "release"] = "paper"
    q: float | None = None
    rho: float = 0.5
    mass: float = 0.2
    tau: float = 20.0
    sink_dims: tuple[int, ...] | None = None
    first_layer: float = 0.0625
    last_layer: float | None = None  # type: ignore[assignment]

    def validate(self) -> None:
        self.require(self.mode in SHARE, "mode", "it is 'paper' or 'release'")
        super().validate()
        self.require(self.q is None or 0 <= self.q <= 1, "q", "it is a share between 0 and 1")
        self.require(0 <= self.rho <= 1, "rho", "it is a share between 0 and 1")
        self.require(0 <= self.mass <= 1, "mass", "it is a share between 0 and 1")
        self.require(self.tau > 0, "tau", "it is positive")
        dims = self.sink_dims
        self.require(dims is None or (len(dims) > 0 and min(dims) >= 0), "sink_dims", "it lists channels from 0 up")

    def check(self, view: Model) -> None:
        super().check(view)
        width = int(view.config.hidden_size)
        if self.tau >= sqrt(width):
            raise UserError(
                f"method.var.tau is {self.tau:g}, but in a model of width {width} no activation exceeds "
                f"sqrt({width}) = {sqrt(width):.3g} times the token's mean, so no sink could be found; lower it "
                f"(the published 20 of 64 corresponds to {20 / 64 * sqrt(width):.3g})."
            )
        if self.sink_dims and max(self.sink_dims) >= width:
            raise UserError(
                f"method.var.sink_dims names channel {max(self.sink_dims)}, but the model's width is {width}."
            )

    def top(self) -> float:
        return TOP[self.mode] if self.last_layer is None else self.last_layer

    def share(self) -> float:
        """q."""
        return SHARE[self.mode] if self.q is None else self.q

    def idle(self, n: int) -> str:
        return "" if self.share() > 0 else "q is 0, so nothing is moved"

    def layer_in(self, ctx: Call, x: Tensor) -> Tensor | None:
        """Finds the sinks of the prompt; returns `x` itself, which records that the layer was looked at."""
        if ctx.phase != "prefill" or ctx.image is None or ctx.request is None or self.idle(x.shape[1]):
            return None
        if ctx.layer not in self.span(ctx.view.n_layers):
            return None
        each = x.shape[0] // ctx.request.inputs.ids.shape[0]  # beams repeat a sample
        ratio = relative(x[::each])
        dims = channels(ratio, ctx.n_pad[::each], self.tau) if self.sink_dims is None else given(ratio, self.sink_dims)
        sinks = sink_tokens(ratio, dims, ctx.n_pad[::each], self.tau)
        on_image = (sinks & ctx.image[::each].to(sinks.device)).sum(1)
        ctx.count("sink_channels", dims.sum(1))
        ctx.count("sinks", sinks.sum(1))
        ctx.count("image_sinks", on_image)
        ctx.request.state["sinks", ctx.layer] = sinks
        return x

    def probs(self, ctx: Call, a: Tensor) -> Tensor | None:
        import torch.nn.functional as F

        found = None if ctx.request is None else ctx.request.state.get(("sinks", ctx.layer))
        if found is None or ctx.image is None:
            return None
        sinks = F.pad(ctx.rows(found, a.shape[0]), (0, a.shape[3] - found.shape[1]))
        most = 1 - self.rho if self.mode == "paper" else self.rho
        new, moved = redistribute(a, ctx.image.to(a.device), sinks.to(a.device), self.share(), most, self.mass)
        ctx.count("heads_selected", moved > 0)
        ctx.count("mass_moved", moved)
        return new if bool((moved > 0).any()) else None


def relative(x: Tensor) -> Tensor:
    """|x| in units of the token's root mean square, float32 `[B, n, width]`."""
    x = x.float()
    return x.abs() * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def channels(ratio: Tensor, n_pad: Tensor, tau: float) -> Tensor:
    """bool `[B, width]`: where the first token of each prompt exceeds tau."""
    import torch

    return ratio[torch.arange(len(ratio), device=ratio.device), n_pad] > tau


def given(ratio: Tensor, dims: tuple[int, ...]) -> Tensor:
    """bool `[B, width]`: the listed channels."""
    import torch

    mask = torch.zeros(ratio.shape[-1], dtype=torch.bool, device=ratio.device)
    mask[list(dims)] = True
    return mask.expand(len(ratio), -1)


def sink_tokens(ratio: Tensor, dims: Tensor, n_pad: Tensor, tau: float) -> Tensor:
    """bool `[B, n]`: tokens with phi > tau, padding left out. ratio `[B, n, width]`, dims bool `[B, width]`."""
    import torch

    phi = (ratio * dims[:, None]).amax(-1)
    return (phi > tau) & (torch.arange(ratio.shape[1], device=ratio.device) >= n_pad[:, None])


def redistribute(a: Tensor, image: Tensor, sinks: Tensor, q: float, most: float, mass: float) -> tuple[Tensor, Tensor]:
    """New weights `[B, H, R, n_k]` and the attention moved in each head and row `[B, H, R]`, 0 where none was selected.

    a `[B, H, R, n_k]` after the softmax; image and sinks bool `[B, n_k]`; `most`: largest share of the image attention
    that may be on sinks. A pair whose image attention is all on sinks has nowhere to move it and is left alone.
    """
    import torch

    spots = sinks & image
    columns = torch.stack((image, spots, sinks), dim=-1).to(a.dtype)[:, None]  # [B, 1, n_k, 3]
    on_image, on_spots, on_sinks = (a @ columns).unbind(-1)  # [B, H, R]
    on_rest = on_image - on_spots
    total = on_image + 1e-6 * image.sum(-1)[:, None, None]
    selected = (on_image >= mass) & (on_spots <= most * total) & (on_rest > 1e-6) & spots.any(-1)[:, None, None]
    moved = torch.where(selected, q * on_sinks, 0)
    gain = moved / on_rest.clamp_min(1e-6)
    change = gain[..., None] * (image & ~spots)[:, None, None]  # the share by which a weight grows
    change -= (q * selected)[..., None] * sinks[:, None, None]
    return change.add_(1).mul_(a), moved
