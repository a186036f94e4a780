"""What PAI and PAINT share: louder image columns in the last query row, and guidance away from the text-only stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.contracts.call import Call, Request
from methods.contrast.two_stream import pai_guidance, refuse_soft_cap, report
from methods.weights.depth import InLayers

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model


@dataclass(frozen=True, kw_only=True)
class RowBoost(InLayers):
    """S_j := S_j + g_j |S_j| in the last query row (prefill and every decode step), for gains `g` of a subclass; then, if
    `gamma` > 0, guidance by a second stream without the image. The commands of both releases have it on, at 1.1.
    """

    needs = frozenset({"images", "second_stream"})  # the second one only with gamma
    query_rows = "last"
    prefix_safe = True  # a row that others read is never edited in a prefill, and the second stream has its own
    options: ClassVar[dict[str, str]] = InLayers.options | {
        "gamma": "strength of the guidance by the text-only stream, published 1.1 (1: none); null or 0: no second stream",
        "cut": "guidance: tokens less likely than this share of the likeliest one are ruled out",
        "release_quirk": "guidance as released: the first token comes from a prefill without the boost",
    }

    first_layer: float = 0.0625
    last_layer: float = -1
    gamma: float | None = 1.1
    cut: float = 0.1
    release_quirk: bool = False

    def validate(self) -> None:
        super().validate()
        self.require(self.gamma is None or self.gamma >= 0, "gamma", "it cannot be negative")
        self.require(0 <= self.cut < 1, "cut", "it is a share in [0, 1)")
        self.require(not self.release_quirk or bool(self.gamma), "release_quirk", "it only exists with gamma")

    def check(self, view: Model) -> None:
        super().check(view)
        if self.guides():
            refuse_soft_cap(self, view)

    def layers(self, view: Model) -> list[int]:
        boosted = super().layers(view) if self.boosts() else []
        return [*boosted, *([view.n_layers] if self.guides() else [])]

    def idle(self, n: int) -> str:
        return "" if self.boosts() or self.guides() else "neither the boost nor the guidance has any strength"

    def boosts(self) -> bool:
        """True if some column gains."""
        raise NotImplementedError

    def guides(self) -> bool:
        """True if there is a second stream; gamma 1 without a cut would give the model's own log-probabilities."""
        return bool(self.gamma) and (self.gamma != 1 or self.cut > 0)

    def gains(self, ctx: Call) -> Tensor:
        """g, float `[rows, n_k]`, 0 outside the image."""
        raise NotImplementedError

    def begin(self, request: Request) -> None:
        if self.guides():
            request.state["stream"] = request.stream(request.without_image())

    def scores(self, ctx: Call, s: Tensor) -> Tensor | None:
        quiet = self.release_quirk and ctx.step == 0
        if ctx.image is None or not self.boosts() or quiet or ctx.layer not in self.span(ctx.view.n_layers):
            return None
        if "gains" not in ctx.store:
            ctx.store["gains"] = self.gains(ctx)
        return boosted(s, ctx.store["gains"])

    def probs(self, ctx: Call, a: Tensor) -> None:
        """Only watches."""
        if ctx.image is not None and ctx.layer in self.span(ctx.view.n_layers):
            ctx.count("image_mass", a @ ctx.image.to(a)[:, None, :, None])

    def logits(self, ctx: Call, z: Tensor) -> Tensor | None:
        if not self.guides() or ctx.request is None:
            return None
        import torch

        c, u = z[:, -1].float().log_softmax(-1), ctx.request.state["stream"].next(ctx).log_softmax(-1)
        guided = pai_guidance(c, u, self.gamma or 0.0, self.cut)
        report(ctx, c, u, guided)
        return torch.cat((z[:, :-1].float(), guided[:, None]), dim=1)


def boosted(s: Tensor, gains: Tensor) -> Tensor:
    """Scores `[B, H, R, n_k]` with `g |S|` added; gains `[B, n_k]`."""
    return s + s.abs() * gains.to(s)[:, None, None]
