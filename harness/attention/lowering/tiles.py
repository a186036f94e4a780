"""From a block pattern to lists: which key blocks each block of query rows reads, and where a mask is still needed
inside them.

A plan belongs to one stretch of logical query rows and keys. It is made once per forward and shared by all layers of a
kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.contracts.call import Blocks

Allowed = Callable[[Tensor, Tensor], Tensor] | None


@dataclass(frozen=True)
class Tiles:
    """Query blocks that read equally many key blocks. `mask` bool `[R | 1, S, n * S]`, True where a key is read."""

    rows: Tensor  # int64 [R], counted from the first query block of the plan
    blocks: Tensor  # int64 [R, n], ascending, counted from the first key block of the plan
    mask: Tensor


@dataclass(frozen=True)
class Plan:
    """All tiles of query rows `rows` over keys `keys` (ranges of logical positions)."""

    size: int
    rows: range
    keys: range
    tiles: tuple[Tiles, ...]
    pairs: int  # (query, key) pairs that are read, for one head and one sample

    @property
    def row_blocks(self) -> range:
        return grid(self.rows, self.size)

    @property
    def key_blocks(self) -> range:
        return grid(self.keys, self.size)


def grid(positions: range, size: int) -> range:
    """Blocks of `size` that contain any of `positions`."""
    return range(positions.start // size, (positions.stop - 1) // size + 1)


def ahead(blocks: Blocks, allowed: Allowed) -> bool:
    """Whether a query may read keys behind its own: where both the pattern and the model's mask look there."""
    return not blocks.causal and allowed is not None


def table(blocks: Blocks, a: range, c: range, head: int | None = None, ahead: bool = False) -> Tensor:
    """bool `[len(a), len(c)]`: kept blocks, the diagonal always, those above it only if a query may look `ahead`."""
    rows, columns = torch.arange(a.start, a.stop)[:, None], torch.arange(c.start, c.stop)[None, :]
    kept = torch.as_tensor(blocks.keep(head, rows, columns), dtype=torch.bool).expand(len(a), len(c))
    kept = kept | (rows == columns)
    return kept if ahead else kept & (columns <= rows)


def pairs(blocks: Blocks, n: int) -> int:
    """Exact number of (query, key) pairs that a pattern without token predicate reads in a causal forward over `n`
    tokens.
    """
    blocks_of_n = grid(range(n), blocks.size)
    kept = table(blocks, blocks_of_n, blocks_of_n)
    height = torch.full((len(blocks_of_n),), blocks.size)
    height[-1] = n - blocks.size * (len(blocks_of_n) - 1)
    before = (kept.sum(1) - 1) * blocks.size * height
    return int((before + height * (height + 1) // 2).sum())


def build(blocks: Blocks, rows: range, keys: range, allowed: Allowed, device: Any, head: int | None = None) -> Plan:
    """The plan of `blocks` for query rows `rows` and cached plus new keys `keys` (logical positions; the last ones
    coincide).

    Blocks that lie inside both ranges share one mask per count if nothing but causality can cut into them.
    """
    size = blocks.size
    a, c = grid(rows, size), grid(keys, size)
    kept = table(blocks, a, c, head, ahead(blocks, allowed))
    counts, first = kept.sum(1), kept.int().argmax(1) + c.start
    tops = torch.arange(a.start, a.stop) * size
    inner = (tops >= rows.start) & (tops + size <= rows.stop) & (first * size >= keys.start)
    inner &= torch.tensor(allowed is None and blocks.token is None)
    tiles, total = [], 0
    for n, is_inner in sorted(set(zip(counts.tolist(), inner.tolist(), strict=True))):
        chosen = ((counts == n) & (inner == is_inner)).nonzero()[:, 0]
        index = kept[chosen].nonzero()[:, 1].view(-1, n)
        sample = slice(0, 1) if is_inner else slice(None)
        i = ((chosen[sample] + a.start)[:, None] * size + torch.arange(size)).to(device)
        j = ((index[sample] + c.start)[:, :, None] * size + torch.arange(size)).flatten(1).to(device)
        mask, read = tile_mask(blocks, i[:, :, None], j[:, None, :], rows, keys, allowed)
        total += read * (len(chosen) if is_inner else 1)
        tiles.append(Tiles(chosen.to(device), index.to(device), mask[:1] if bool((mask == mask[:1]).all()) else mask))
    return Plan(size, rows, keys, tuple(tiles), total)


def tile_mask(blocks: Blocks, i: Tensor, j: Tensor, rows: range, keys: range, allowed: Allowed) -> tuple[Tensor, int]:
    """bool `[R, S, n * S]` for query positions `[R, S, 1]` and key positions `[R, 1, n * S]`, and how many pairs of it
    are real.
    """
    mask = token_mask(blocks, i, j, allowed) & (j >= keys.start) & (j < keys.stop)
    read = int((mask & (i >= rows.start) & (i < rows.stop)).sum())
    return mask | ~mask.any(dim=-1, keepdim=True), read  # rows outside the range are thrown away, but must not be NaN


def token_mask(blocks: Blocks, i: Tensor, j: Tensor, allowed: Allowed) -> Tensor:
    """What a query at `i` may read at `j` inside a kept block: causal (or `ahead`), the token predicate, the model's mask; always
    itself.
    """
    mask = (j == j) & (i == i) if ahead(blocks, allowed) else j <= i
    if blocks.token is not None:
        mask = mask & blocks.token(i, j)
    if allowed is not None:
        mask = mask & allowed(i, j)
    return mask | (i == j)
