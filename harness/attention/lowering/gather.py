"""Gather + SDPA: copy the key blocks that are read next to each other and attend to them. CPU, and decode everywhere.

Query blocks that read equally many key blocks are folded into the batch, so small blocks cost no Python loop; chunks
bound the memory of the copies. GQA folds the group into the rows, so key heads are never repeated.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.attention.lowering.sdpa import attend
from harness.attention.lowering.tiles import Allowed, Plan, ahead, grid, table, token_mask
from harness.contracts.call import Blocks

CHUNK = 1 << 20  # gathered key elements per call of SDPA (measured: larger copies leave the CPU's cache and are slower)


def gather_tiles(plan: Plan, q: Tensor, k: Tensor, v: Tensor, scaling: float, sinks: Tensor | None) -> Tensor:
    """Attention of q `[B, H, n_q, D]` (logical rows `plan.rows`) to k, v `[B, H_kv, n_k, D]` (`plan.keys`); `[B, H,
    n_q, D]`.
    """
    (batch, heads, n_q, d), kv_heads, size = q.shape, k.shape[1], plan.size
    group, a = heads // kv_heads, plan.row_blocks
    front, back = plan.rows.start - a.start * size, a.stop * size - plan.rows.stop
    tiled = F.pad(q, (0, 0, front, back)).view(batch, kv_heads, group, len(a), size, d)
    tiled = tiled.transpose(2, 3).flatten(0, 1)  # [B * H_kv, A, G, S, D]
    k, v = (_key_tiles(x, plan) for x in (k, v))  # [B * H_kv, C, S * D]
    if sinks is not None:
        sinks = sinks.view(kv_heads, group).repeat(batch, 1)[:, None]  # [B * H_kv, 1, G]
    out = tiled.new_empty(*tiled.shape[:-1], v.shape[-1] // size)
    for tiles in plan.tiles:
        step = max(1, CHUNK // (k.shape[0] * k.shape[-1] * tiles.blocks.shape[1]))
        for part in torch.arange(len(tiles.rows), device=q.device).split(step):
            rows, blocks = tiles.rows[part], tiles.blocks[part]
            mask = tiles.mask if len(tiles.mask) == 1 else tiles.mask[part]
            keys, values = (_take(x, blocks, size) for x in (k, v))
            out[:, rows] = attend(tiled[:, rows], keys, values, mask[None, :, None], scaling, sinks)
    out = out.unflatten(0, (batch, kv_heads)).transpose(2, 3).reshape(batch, heads, len(a) * size, -1)
    return out[:, :, front : front + n_q]


def _key_tiles(x: Tensor, plan: Plan) -> Tensor:
    """Keys or values on the block grid, `[B * H_kv, C, S * D]`."""
    c, size = plan.key_blocks, plan.size
    x = F.pad(x, (0, 0, plan.keys.start - c.start * size, c.stop * size - plan.keys.stop))
    return x.reshape(x.shape[0] * x.shape[1], len(c), -1)


def _take(x: Tensor, blocks: Tensor, size: int) -> Tensor:
    """The listed blocks `[R, n]` of every row, `[N, R, n * S, D]`."""
    taken = x.index_select(1, blocks.flatten())
    return taken.view(x.shape[0], blocks.shape[0], blocks.shape[1] * size, -1)


def plan_row(blocks: Blocks, i: int, keys: range, allowed: Allowed, device: Any, head: int | None) -> tuple[Any, Any]:
    """Columns `[n]` of the keys that the query at logical position `i` reads (None: all), counted from `keys.start`."""
    size, c = blocks.size, grid(keys, blocks.size)
    kept = table(blocks, range(i // size, i // size + 1), c, head, ahead(blocks, allowed))[0].nonzero()[:, 0] + c.start
    j = (kept[:, None] * size + torch.arange(size)).flatten().to(device)
    j = j[(j >= keys.start) & (j < keys.stop)]
    j = j[token_mask(blocks, torch.tensor(i, device=device), j, allowed)]
    return (None if len(j) == len(keys) else j - keys.start), len(j)


def gather_row(columns: Tensor | None, q: Tensor, k: Tensor, v: Tensor, scaling: float, sinks: Tensor | None) -> Tensor:
    """Attention of one query row `[B, H, 1, D]` to the listed columns of k, v `[B, H_kv, n_k, D]`; `[B, H, 1, D]`."""
    if columns is not None:
        k, v = k.index_select(2, columns), v.index_select(2, columns)
    return grouped(q, k, v, None, scaling, sinks)


def grouped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, sinks: Tensor | None) -> Tensor:
    """Attention of q `[B, H, n_q, D]` to k, v `[B, H_kv, n_k, D]`, mask bool `[B | 1, H | H_kv | 1, n_q, n_k]`; `[B, H,
    n_q, D]`.
    """
    kv_heads, group = k.shape[1], q.shape[1] // k.shape[1]
    if mask is not None:
        mask = mask.unflatten(1, (kv_heads, group)) if group > 1 and mask.shape[1] == q.shape[1] else mask[:, :, None]
    if sinks is not None:
        sinks = sinks.view(1, kv_heads, group)
    return attend(q.unflatten(1, (kv_heads, group)), k, v, mask, scaling, sinks).flatten(1, 2)


def gather_selected(
    index: Tensor, shown: Tensor, q: Tensor, k: Tensor, v: Tensor, scaling: float, sinks: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention of one row `[B, H, 1, D]` to the keys of `index`, and how many of them all heads of each sample read (a
    tensor `[B]`).

    index int64 `[B, H or H_kv, n]`, entries outside [0, n_k) mean nothing; shown bool `[B, H_kv | 1, 1, n_k]`. A head
    for which nothing is left reads the newest key.
    """
    (batch, heads, _, _), (kv_heads, n_k) = q.shape, k.shape[1:3]
    per_kv = index.reshape(batch, kv_heads, -1)
    valid = (per_kv >= 0) & (per_kv < n_k)
    per_kv = per_kv.clamp(0, n_k - 1)
    valid &= shown[:, :, 0].expand(batch, kv_heads, n_k).gather(2, per_kv)
    read = valid.view_as(index)
    nothing = ~read.any(dim=-1, keepdim=True)
    per_kv = torch.where(nothing, n_k - 1, per_kv.view_as(index)).view_as(per_kv)
    keys, values = (x.gather(2, per_kv[..., None].expand(*per_kv.shape, x.shape[-1])) for x in (k, v))
    if index.shape[1] == heads:
        keys, values = (x.reshape(batch, heads, -1, x.shape[-1]) for x in (keys, values))
    out = grouped(q, keys, values, (read | nothing)[:, :, None], scaling, sinks)
    return out, read.sum(-1).clamp(min=1).sum(-1) * (heads // index.shape[1])
