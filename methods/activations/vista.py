"""VISTA (Li et al. 2025, arXiv 2502.03628): steer every layer towards what the image adds, and let late layers speak.

Visual steering: one prefill with and one without the image give, per sample and layer l, the direction

    v_l = x_l(with image) - x_l(without),      x_l = output of layer l at the last prompt position.

`mode: release` (the tuned strengths belong to it) turns the MLP output m of every layer, at all positions:

    u = v / |v|,   g = 1 + max(0, cos(m, -v)),   m' = |m| normalise(m / |m| + strength g u).

`mode: paper` moves the residual stream instead: y = x + strength v, rescaled to |x|, at the position that predicts.

Self-logits augmentation: logits' = (1 - gamma) logits + gamma mean_{l in window} lm_head(x_l), the window being the 6
(release: outputs 25..30 of 32 layers) or 5 (paper) layer outputs below the last, without the final norm.

Published: gamma 0.3; strength 0.17 for LLaVA-1.5 and InstructBLIP in open-ended tasks, 0.10 on MMHal, and **0.01 on
POPE** (on purpose: then set `method.vista.strength=0.01`, or run a variant under its own key).

Ours: in other depths the window is 6/32 (5/32) of the layers, at least two (a window of one hurts in the paper). The
release takes v from a rank-one PCA of the one difference, flattened over the layers, which adds exactly 1 to its first
coordinate, channel 0 of layer 0: an artefact, which `release_quirk` repeats (release mode). Its half-precision casts are
left out: the edits are made in float32. v is per sample, so any batch and beams will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.contracts.call import Call, Request
from harness.contracts.method import Method
from methods.activations.capture import Capture
from methods.activations.steering import moved

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

DEPTH = 32  # layers of the models for which the window was published
WINDOW = {"release": 6, "paper": 5}


@dataclass(frozen=True, kw_only=True)
class Vista(Method):
    """Visual steering and self-logits augmentation."""

    name = "vista"
    title = "VISTA: visual steering and self-logits augmentation"
    paper = "2502.03628"
    needs = frozenset({"images"})
    budget_unit = "strength of the steering"
    options = {
        "mode": "release: turn the MLP outputs; paper: move the residual stream",
        "strength": "lambda: 0.17 open-ended, 0.01 on POPE, 0.10 on MMHal; 0 leaves the layers alone",
        "gamma": "share of the late layers in the logits; 0 leaves the logits alone",
        "window": "late layers whose logits are mixed in, below the last; null: as published, scaled to the depth",
        "release_quirk": "add 1 to channel 0 of the first layer's direction, as the release's PCA does (release mode)",
    }

    mode: Literal["release", "paper"] = "release"
    strength: float = 0.17
    gamma: float = 0.3
    window: int | None = None
    release_quirk: bool = False

    def validate(self) -> None:
        self.require(self.mode in WINDOW, "mode", "it is 'release' or 'paper'")
        self.require(self.strength >= 0, "strength", "it cannot be negative")
        self.require(0 <= self.gamma <= 1, "gamma", "it is a share between 0 and 1")
        self.require(self.window is None or self.window >= 1, "window", "at least one layer is mixed in")
        self.require(
            not self.release_quirk or self.mode == "release", "release_quirk", "it only exists in mode release"
        )

    def layers(self, view: Model) -> list[int]:
        steered = range(view.n_layers) if self.strength else ()
        return [*steered, *([view.n_layers] if self.gamma else [])]

    def begin(self, request: Request) -> None:
        if not self.strength:
            return
        seen, blind = Capture(what=("layer_out",)), Capture(what=("layer_out",))
        request.forward(request.inputs, under=seen)
        request.forward(request.without_image(), under=blind)
        direction = seen.stack("layer_out").float() - blind.stack("layer_out").float()  # [B, L, d]
        direction[:, 0, 0] += self.release_quirk
        request.state["direction"] = direction

    def mlp_out(self, ctx: Call, m: Tensor) -> Tensor | None:
        return self._steer(ctx, m, slice(None)) if self.mode == "release" else None

    def layer_out(self, ctx: Call, x: Tensor) -> Tensor | None:
        steered = self._steer(ctx, x, slice(-1, None)) if self.mode == "paper" else None
        if self.gamma and ctx.layer in self._window(ctx.view):
            ctx.store["late", ctx.layer] = x if steered is None else steered
        return steered

    def logits(self, ctx: Call, z: Tensor) -> Tensor | None:
        if not self.gamma:
            return None
        from torch.nn.functional import linear

        weight: Any = ctx.view.lm_head.weight
        late = [ctx.store["late", layer][:, -z.shape[1] :].to(weight) for layer in self._window(ctx.view)]
        mixed = (1 - self.gamma) * z.float()
        for x in late:
            mixed += self.gamma / len(late) * linear(x, weight).float()
        if ctx.step == 0:
            ctx.count("late_logits_moved", (mixed - z).abs().amax(-1))
        return mixed.to(z.dtype)

    def _steer(self, ctx: Call, x: Tensor, part: slice) -> Tensor | None:
        """`x` with the positions of `part` turned; None where there is no direction."""
        if not self.strength or ctx.request is None or "direction" not in ctx.request.state:
            return None
        import torch

        v = ctx.rows(ctx.request.state["direction"], x.shape[0])[:, None, ctx.layer].to(x.device)
        old = x[:, part].float()
        new = turned(old, v, self.strength) if self.mode == "release" else moved(old, v, self.strength)
        if ctx.step == 0:
            ctx.count("cosine", torch.cosine_similarity(old[:, -1], new[:, -1], dim=-1))
        return torch.cat((x[:, : x.shape[1] - old.shape[1]], new.to(x.dtype)), dim=1)

    def _window(self, view: Model) -> range:
        """Layers whose outputs are read through the language head."""
        return window(view.n_layers, WINDOW[self.mode], self.window)


def turned(m: Tensor, v: Tensor, strength: float) -> Tensor:
    """The release's edit: m `[B, n, d]` turned towards v `[B, 1, d]`, more where it points away; norms kept."""
    from torch.nn.functional import cosine_similarity, normalize

    g = 1 + cosine_similarity(m, -v, dim=-1).clamp(min=0)[..., None]
    return m.norm(dim=-1, keepdim=True) * normalize(normalize(m, dim=-1) + strength * g * normalize(v, dim=-1), dim=-1)


def window(n_layers: int, published: int, chosen: int | None = None) -> range:
    """The layers below the last one that are mixed in: `published` of 32, in proportion, at least two if there are."""
    n = chosen if chosen is not None else max(2, round(published * n_layers / DEPTH))
    return range(max(0, n_layers - 1 - n), n_layers - 1)
