"""Two small methods for extra forwards: one keeps what a model computed at its last position, one replaces some of it.

Batches are padded on the left, so the last position is index -1 for every sample. Neither is chosen in a run: methods
hand them to `Request.forward(inputs, under=...)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness.contracts.call import Call
from harness.contracts.method import Method

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

Kind = Literal["heads", "attn_out", "mlp_out", "layer_out"]


@dataclass(frozen=True, kw_only=True)
class Capture(Method):
    """Keeps the last position of each kind in `what`: `kept[kind][layer]`, `[B, H, D]` for heads, else `[B, width]`."""

    name = "capture"
    title = "Keeps activations of the last position"
    paper = "own"
    prefill_is_dense = True
    options = {"what": "of heads, attn_out, mlp_out, layer_out", "kept": "where they are kept"}

    what: tuple[Kind, ...]
    kept: dict[str, dict[int, Any]] = field(default_factory=dict, compare=False, repr=False)

    def stack(self, kind: str) -> Tensor:
        """`[B, L, ...]`: what was kept of one kind, all layers."""
        import torch

        rows = self.kept[kind]
        return torch.stack([rows[layer].to(rows[0].device) for layer in sorted(rows)], dim=1)

    def heads(self, ctx: Call, z: Tensor) -> None:
        self._keep("heads", ctx, z)

    def attn_out(self, ctx: Call, a: Tensor) -> None:
        self._keep("attn_out", ctx, a)

    def mlp_out(self, ctx: Call, m: Tensor) -> None:
        self._keep("mlp_out", ctx, m)

    def layer_out(self, ctx: Call, x: Tensor) -> None:
        self._keep("layer_out", ctx, x)

    def _keep(self, kind: str, ctx: Call, x: Tensor) -> None:
        if kind in self.what:
            self.kept.setdefault(kind, {})[ctx.layer] = x[:, -1].clone()


@dataclass(frozen=True, kw_only=True)
class Patch(Method):
    """Replaces one activation of the last position by `value` `[B, width]`, in one layer."""

    name = "patch"
    title = "Replaces one activation of the last position"
    paper = "own"
    options = {"kind": "attn_out, mlp_out or layer_out", "layer": "the layer", "value": "what is put there"}

    kind: Kind
    layer: int
    value: Any = field(compare=False, repr=False)

    def layers(self, view: Model) -> list[int]:
        return [self.layer]

    def attn_out(self, ctx: Call, a: Tensor) -> Tensor | None:
        return self._put("attn_out", ctx, a)

    def mlp_out(self, ctx: Call, m: Tensor) -> Tensor | None:
        return self._put("mlp_out", ctx, m)

    def layer_out(self, ctx: Call, x: Tensor) -> Tensor | None:
        return self._put("layer_out", ctx, x)

    def _put(self, kind: str, ctx: Call, x: Tensor) -> Tensor | None:
        if kind != self.kind or ctx.layer != self.layer:
            return None
        x = x.clone()
        x[:, -1] = self.value.to(x)
        return x
