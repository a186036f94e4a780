"""FlexAttention from block lists: the GPU lowering of prefill, and on a CPU the same kernel compiled (used there on
request only).

The block lists say which tiles exist; tiles that something can cut into (diagonal, ragged, windowed) go to the partial
list, where `mask_mod` is evaluated. Uncompiled FlexAttention ignores the lists, so `mask_mod` is complete: it repeats
the block predicate.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from harness.attention.plan import Allowed, grid, table, token_mask
from harness.contracts.method import Blocks

KERNEL_TILE = 128  # on a GPU blocks must be multiples of the kernel's tile


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=False)


def block_mask(blocks: Blocks, rows: range, keys: range, allowed: Allowed, device: Any, n_heads: int) -> BlockMask:
    """The pattern over logical query rows and keys as a `BlockMask` on the grid of their blocks."""
    size, a, c = blocks.size, grid(rows, blocks.size), grid(keys, blocks.size)
    heads = list(range(n_heads)) if blocks.per_head else [None]
    kept = torch.stack([table(blocks, a, c, head) for head in heads])  # [H | 1, A, C]
    first, last = torch.arange(c.start, c.stop) * size, (torch.arange(c.start, c.stop) + 1) * size
    whole = (first >= keys.start) & (last <= keys.stop) & (last <= torch.arange(a.start, a.stop)[:, None] * size)
    whole &= torch.tensor(allowed is None and blocks.token is None)
    row0, column0, start, stop = a.start * size, c.start * size, keys.start, keys.stop

    def mask_mod(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        i, j = q + row0, k + column0
        kept_block = blocks.keep(h if blocks.per_head else None, i // size, j // size) | (i // size == j // size)
        return token_mask(blocks, i, j, allowed) & kept_block & (j >= start) & (j < stop)

    partial_n, partial, full_n, full = (x.to(device) for x in (*_lists(kept & ~whole), *_lists(kept & whole)))
    shape = (len(a) * size, len(c) * size)
    return BlockMask.from_kv_blocks(
        partial_n, partial, full_n, full, BLOCK_SIZE=size, mask_mod=mask_mod, seq_lengths=shape
    )


def _lists(kept: Tensor) -> tuple[Tensor, Tensor]:
    """Counts `[1, H | 1, A]` and indices `[1, H | 1, A, C]`, int32, kept blocks first and ascending."""
    order = kept.int().argsort(dim=-1, descending=True, stable=True)
    return kept.sum(-1, dtype=torch.int32)[None], order.int()[None]


def flex_tiles(mask: BlockMask, rows: range, keys: range, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """Attention of q `[B, H, n_q, D]` to k, v `[B, H_kv, n_k, D]` under the mask of these ranges; `[B, H, n_q, D]`."""
    size = mask.BLOCK_SIZE[0]
    front = rows.start % size
    q = F.pad(q, (0, 0, front, -rows.stop % size))
    k, v = (F.pad(x, (0, 0, keys.start % size, -keys.stop % size)) for x in (k, v))
    out = _compiled()(q, k, v, block_mask=mask, scale=scaling, enable_gqa=q.shape[1] != k.shape[1])
    return out[:, :, front : front + len(rows)]
