"""From `Blocks` to an output: choose a lowering, walk over samples of equal padding, count what was read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.attention.lowering import flex, gather
from harness.attention.lowering.dense import lower_dense
from harness.attention.lowering.tiles import build
from harness.attention.mask import AskedMask, Span
from harness.contracts.call import Blocks

LOWERINGS: tuple[str, ...] = ("auto", "dense", "gather", "flex")
FLEX_FROM = 1024  # query rows from which a compiled kernel pays on a GPU


def choose(wanted: str, blocks: Blocks, meta: AskedMask, sinks: Tensor | None) -> str:
    """The lowering of this call. Decode is always gathered; `auto` takes FlexAttention only where its kernel can run
    well.
    """
    if wanted == "dense" or meta.n_q == 1:
        return "dense" if wanted == "dense" else "gather"
    on_gpu = torch.device(meta.device).type == "cuda"
    fits = on_gpu and blocks.size % flex.KERNEL_TILE == 0 and meta.n_q >= FLEX_FROM
    able = sinks is None and meta.plain and blocks.size % flex.SMALLEST_TILE == 0
    return "flex" if able and (wanted == "flex" or (wanted == "auto" and fits)) else "gather"


def lower(
    how: str, blocks: Blocks, meta: AskedMask, plans: dict[Any, Any], q: Tensor, k: Tensor, v: Tensor, scaling: float,
    sinks: Tensor | None,
) -> tuple[Tensor, Any]:  # fmt: skip
    """Attention under a block pattern: q `[B, H, n_q, D]`, k and v `[B, H_kv, n_k, D]` -> `[B, H, n_q, D]`, and the pairs
    that all heads of each sample read.

    `plans` is the forward's memory: layers of one kind with an equal pattern share their lists and masks.
    """
    if how == "dense":
        return lower_dense(blocks, meta, q, k, v, scaling, sinks)
    whole = meta.padding is None and len(meta.spans) == 1
    # A row of padding reads its own key alone, so it starts as its own value.
    new = v[:, :, meta.q_offset - meta.kv_offset :]
    out = None if whole else new.repeat_interleave(q.shape[1] // v.shape[1], dim=1)
    read = [0] * len(q)
    for span in meta.spans:
        top, end = max(span.start, meta.q_offset), min(span.stop, meta.q_offset + meta.n_q)
        if top >= end:
            continue
        index = slice(None) if len(span.samples) == len(q) else list(span.samples)
        lines = slice(top - meta.q_offset, end - meta.q_offset)
        columns = slice(max(span.start - meta.kv_offset, 0), end - meta.kv_offset)
        part = _Part(
            blocks, meta, span, plans,
            rows=range(top - span.start, end - span.start),
            keys=range(max(meta.kv_offset - span.start, 0), end - span.start),
        )  # fmt: skip
        qkv = (q[index][:, :, lines], k[index][:, :, columns], v[index][:, :, columns])
        result, pairs = part.by_flex(*qkv, scaling) if how == "flex" else part.by_gather(*qkv, scaling, sinks)
        for sample in span.samples:
            read[sample] = pairs
        if out is None:
            return result, read
        out[index, :, lines] = result
    assert out is not None  # a batch without padding has one span, which returned
    return out, read


class _Part:
    """Samples of equal padding: logical rows and keys are ranges, and lists are looked up before they are made."""

    def __init__(
        self, blocks: Blocks, meta: AskedMask, span: Span, plans: dict[Any, Any], rows: range, keys: range
    ) -> None:
        self.blocks, self.meta, self.plans, self.rows, self.keys = blocks, meta, plans, rows, keys
        self.allowed = meta.allowed(span)
        self.key = (id(meta), blocks, rows, keys, span.start)

    def _once(self, *what: Any, make: Any) -> Any:
        key = (*self.key, *what)
        if key not in self.plans:
            self.plans[key] = make()
        return self.plans[key]

    def plan(self, head: int | None) -> Any:
        make = gather.plan_row if len(self.rows) == 1 else build
        where: Any = self.rows.start if len(self.rows) == 1 else self.rows
        return self._once(head, make=lambda: make(self.blocks, where, self.keys, self.allowed, self.meta.device, head))

    def by_gather(self, q: Tensor, k: Tensor, v: Tensor, scaling: float, sinks: Tensor | None) -> tuple[Tensor, int]:
        """`[b, H, n, D]` and the pairs that all heads of one sample read."""
        if not self.blocks.per_head:
            out, pairs = self._gathered(None, q, k, v, scaling, sinks)
            return out, pairs * q.shape[1]
        outs, total, group = [], 0, q.shape[1] // k.shape[1]
        for head in range(q.shape[1]):
            one, kv = slice(head, head + 1), slice(head // group, head // group + 1)
            sink = None if sinks is None else sinks[one]
            out, pairs = self._gathered(head, q[:, one], k[:, kv], v[:, kv], scaling, sink)
            outs.append(out)
            total += pairs
        return torch.cat(outs, dim=1), total

    def _gathered(self, head: int | None, q: Tensor, k: Tensor, v: Tensor, scaling: float, sinks: Tensor | None) -> Any:
        plan = self.plan(head)
        if len(self.rows) == 1:
            columns, pairs = plan
            return gather.gather_row(columns, q, k, v, scaling, sinks), pairs
        return gather.gather_tiles(plan, q, k, v, scaling, sinks), plan.pairs

    def by_flex(self, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> tuple[Tensor, int]:
        """`[b, H, n, D]` and the pairs that all heads of one sample read."""
        args = (self.blocks, self.rows, self.keys, self.allowed, self.meta.device)
        mask = self._once("flex", make=lambda: flex.block_mask(*args, q.shape[1]))
        heads = range(q.shape[1]) if self.blocks.per_head else [None]
        pairs = self._once("pairs", make=lambda: sum(build(*args, head).pairs for head in heads))
        out = flex.flex_tiles(mask, self.rows, self.keys, q, k, v, scaling)
        return out, pairs if self.blocks.per_head else pairs * q.shape[1]
