"""FlexAttention from block lists: the GPU lowering of prefill, and the same kernel compiled on a CPU (on request).

The block lists say which tiles exist; tiles that something can cut into (diagonal, ragged, windowed) go to the partial
list, where `mask_mod` is evaluated. Uncompiled FlexAttention ignores the lists, so `mask_mod` is complete: it repeats
the block predicate. Lengths are rounded up to a few buckets, and what changes with the prompt is captured as tensors,
so a new prompt rarely means a new compilation.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from harness.attention.lowering.tiles import Allowed, ahead, grid, table, token_mask
from harness.contracts.call import Blocks

KERNEL_TILE = 128  # of the kernel that torch chooses on a GPU; other blocks need a smaller tile, which is slower
SMALLEST_TILE = (
    16  # of a product on a GPU; on a CPU torch 2.13 compiles wrong results for other blocks (8, 24: errors of order 1)
)
COMPILATIONS = 256  # patterns x kinds of layers x buckets; at the library's limit of 8 it would stop compiling


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)  # fullgraph: raise rather than run uncompiled


def bucket(n: int) -> int:
    """`n` rounded up to 4, 5, 6, 7 times a power of two (or itself up to 4): at most a quarter too many."""
    step = 1 << max(0, n.bit_length() - 3)
    return -(-n // step) * step


def block_mask(blocks: Blocks, rows: range, keys: range, allowed: Allowed, device: Any, n_heads: int) -> BlockMask:
    """The pattern over logical query rows and keys as a `BlockMask` on the grid of their blocks, rounded to buckets."""
    size, a, c = blocks.size, grid(rows, blocks.size), grid(keys, blocks.size)
    heads = list(range(n_heads)) if blocks.per_head else [None]
    kept = torch.stack([table(blocks, a, c, head, ahead(blocks, allowed)) for head in heads])  # [H | 1, A, C]
    first = torch.arange(c.start, c.stop) * size
    whole = (first >= keys.start) & (first + size <= torch.arange(a.start, a.stop)[:, None] * size)
    whole &= torch.tensor(allowed is None and blocks.token is None)
    shape = (bucket(len(a)), bucket(len(c)))
    room = (0, shape[1] - len(c), 0, shape[0] - len(a))
    partial_n, partial = _lists(F.pad(kept & ~whole, room), device)
    full_n, full = _lists(F.pad(kept & whole, room), device)
    row0, column0, start, stop = torch.tensor([a.start * size, c.start * size, keys.start, keys.stop], device=device)

    def mask_mod(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        i, j = q + row0, k + column0
        kept_block = blocks.keep(h if blocks.per_head else None, i // size, j // size) | (i // size == j // size)
        return token_mask(blocks, i, j, allowed) & kept_block & (j >= start) & (j < stop)

    lengths = (shape[0] * size, shape[1] * size)
    return BlockMask.from_kv_blocks(
        partial_n, partial, full_n, full, BLOCK_SIZE=size, mask_mod=mask_mod, seq_lengths=lengths
    )


def _lists(kept: Tensor, device: Any) -> tuple[Tensor, Tensor]:
    """Counts `[1, H | 1, A]` and indices `[1, H | 1, A, C]`, int32, kept blocks first and ascending."""
    order = kept.int().argsort(dim=-1, descending=True, stable=True)
    return kept.sum(-1, dtype=torch.int32)[None].to(device), order.int()[None].to(device)


def flex_tiles(mask: BlockMask, rows: range, keys: range, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """Attention of q `[B, H, n_q, D]` to k, v `[B, H_kv, n_k, D]` under the mask of these ranges; `[B, H, n_q, D]`."""
    (size, _), (n_rows, n_keys) = mask.BLOCK_SIZE, mask.seq_lengths
    front, before = rows.start % size, keys.start % size
    q = F.pad(q, (0, 0, front, n_rows - front - len(rows)))
    k, v = (F.pad(x, (0, 0, before, n_keys - before - len(keys))) for x in (k, v))
    tile = math.gcd(size, KERNEL_TILE // 2)
    small = {"BLOCK_M": tile, "BLOCK_N": tile} if q.is_cuda and size % KERNEL_TILE else None
    with torch._dynamo.config.patch(recompile_limit=COMPILATIONS, accumulated_recompile_limit=COMPILATIONS):
        out = _compiled()(
            q, k, v, block_mask=mask, scale=scaling, enable_gqa=q.shape[1] != k.shape[1], kernel_options=small
        )
    return out[:, :, front : front + len(rows)]
