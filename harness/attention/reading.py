"""Which keys a layer call reads, where a method says so: the hooks `select`, `mask` and `pattern`, and caches that were cut."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from harness.attention.forward import Forward
from harness.attention.lowering.gather import gather_selected, grouped
from harness.attention.lowering.lower import choose, lower
from harness.attention.mask import AskedMask
from harness.attention.tally import Tally
from harness.contracts.call import Call
from harness.contracts.hooks import NEVER
from harness.contracts.method import Method


class Reading:
    """The part of a method that chooses keys. Its results are pairs of an output `[B, H, n_q, D]` and the pairs that all heads
    of each sample read, or None where the method leaves the call alone.
    """

    def __init__(self, method: Method, lowering: str) -> None:
        self.method, self.lowering = method, lowering
        phases = {hook.name: hook.phases & method.phases for hook in method.hooks}
        self.selects, self.masks, self.blocks = (phases.get(hook, NEVER) for hook in ("select", "mask", "pattern"))
        self.cuts = method.tracks_keys  # the cache may lack keys

    def read(
        self,
        ctx: Call,
        meta: AskedMask,
        forward: Forward,
        tally: Tally,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        sinks: Tensor | None,
    ) -> tuple[Tensor, Any] | None:
        """q `[B, H, n_q, D]`, k and v `[B, H_kv, n_k, D]`; None where the model's own attention must run."""
        index = self.method.select(ctx, q, k) if ctx.phase in self.selects else None
        if index is not None:
            return gather_selected(index, cast(Any, ctx.visible)(slice(None)), q, k, v, ctx.scaling, sinks)
        found = self._masked(ctx, meta, tally, q, k, v, sinks) if ctx.phase in self.masks else None
        if found is not None:
            return found
        blocks = self.method.pattern(ctx, q, k) if ctx.phase in self.blocks else None
        if blocks is not None:
            how = choose(self.lowering, blocks, meta, sinks)
            tally.simulated |= how == "dense"
            return lower(how, blocks, meta, forward.plans, q, k, v, ctx.scaling, sinks)
        tracked = forward.layer(ctx.layer) if self.cuts else None
        if tracked is None or tracked.positions is None:
            return None
        shown = cast(Any, ctx.visible)(slice(None)).expand(-1, k.shape[1], -1, -1)
        read = _pairs(shown, meta.real(q.shape[0])) * (q.shape[1] // k.shape[1])
        return grouped(q, k, v, shown, ctx.scaling, sinks), read

    def _masked(
        self, ctx: Call, meta: AskedMask, tally: Tally, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None
    ) -> tuple[Tensor, Any] | None:
        stock = meta.visible(meta.columns(slice(None)), meta.keys(k.shape[2]))[:, :1]
        shown = self.method.mask(ctx, stock)
        if shown is None:
            return None
        real = meta.real(stock.shape[0])
        tally.edit(ctx.layer, shown, stock, real)
        tally.simulated |= shown is not stock
        out = grouped(q, k, v, shown.expand(-1, k.shape[1], -1, -1), ctx.scaling, sinks)
        return out, _pairs(shown, real) * q.shape[1]


def _pairs(shown: Tensor, real: Tensor) -> Tensor:
    """int64 `[B]`: True in shown `[B, h, n_q, n_k]`, rows of padding left out (real `[B, n_q]`)."""
    return (shown & real[:, None, :, None]).sum((1, 2, 3))
