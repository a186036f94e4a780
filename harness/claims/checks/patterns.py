"""Static block patterns, by block arithmetic alone: how much is read, and how far a token sees through the layers.

All counts are of one head, causal, for contexts of `lengths` tokens; they are exact whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.claims.checks.base import OfMethod, built
from harness.contracts.check import Finding
from harness.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.call import Blocks
    from harness.contracts.check import Bench
    from harness.contracts.method import Method


@dataclass(frozen=True, kw_only=True)
class Pairs(OfMethod):
    """(query, key) pairs that are read. Also the points of a slope: pairs over length."""

    lengths: tuple[int, ...]

    def measure(self, bench: Bench) -> Finding:
        counts = [pairs_of(built(self.method), n) for n in self.lengths]
        points = tuple((float(n), float(count)) for n, count in zip(self.lengths, counts, strict=True))
        return Finding(counts, points=points)


@dataclass(frozen=True, kw_only=True)
class Density(OfMethod):
    """Pairs read over causal pairs."""

    lengths: tuple[int, ...]

    def measure(self, bench: Bench) -> Finding:
        method = built(self.method)
        return Finding([pairs_of(method, n) / (n * (n + 1) // 2) for n in self.lengths])


@dataclass(frozen=True, kw_only=True)
class Sparsity(OfMethod):
    """1 - pairs / n^2: the empty upper triangle counts as sparse, as some papers print it."""

    length: int

    def measure(self, bench: Bench) -> Finding:
        return Finding(1 - pairs_of(built(self.method), self.length) / self.length**2)


@dataclass(frozen=True, kw_only=True)
class LargestRow(OfMethod):
    """Key blocks in the fullest row."""

    lengths: tuple[int, ...]

    def measure(self, bench: Bench) -> Finding:
        return Finding([fullest_row(built(self.method), n) for n in self.lengths])


@dataclass(frozen=True, kw_only=True)
class Row(OfMethod):
    """The key blocks that one block of queries reads."""

    row: int

    def measure(self, bench: Bench) -> Finding:
        read = table_of(blocks_of(built(self.method)), self.row + 1)[self.row]
        return Finding(read.nonzero()[:, 0].tolist())


@dataclass(frozen=True, kw_only=True)
class Reach(OfMethod):
    """Share of the blocks of a context that the last block can know of, through each number of `layers`. Followed on the
    table of blocks, one step per layer.
    """

    length: int
    layers: tuple[int, ...]

    def measure(self, bench: Bench) -> Finding:
        return Finding([reached(built(self.method), self.length, depth) for depth in self.layers])


@dataclass(frozen=True, kw_only=True)
class Reaches(OfMethod):
    """Reach of `others` and, last, of this method, if all have equally many blocks in their fullest row; for `direction`."""

    others: tuple[Any, ...]
    length: int
    layers: int

    def validate(self) -> None:
        super().validate()
        for node in self.others:
            built(node)

    def measure(self, bench: Bench) -> Finding:
        methods = [*(built(node) for node in self.others), built(self.method)]
        rows = [fullest_row(m, self.length) for m in methods]
        if len(set(rows)) > 1:
            return Finding([0.0], note=f"not of equal cost: {rows} blocks in the fullest row")
        return Finding(
            [reached(m, self.length, self.layers) for m in methods], note=f"{rows[0]} blocks in the fullest row"
        )


def blocks_of(method: Method) -> Blocks:
    """The static pattern of a method; `UserError` if it has none."""
    blocks = method.blocks()
    if blocks is None:
        raise UserError(f"Method '{method.name}' has no static pattern whose pairs can be counted.")
    return blocks


@cache
def pairs_of(method: Method, n: int) -> int:
    from harness.attention.lowering.tiles import pairs

    return pairs(blocks_of(method), n)


def table_of(blocks: Blocks, rows: int) -> Tensor:
    from harness.attention.lowering.tiles import table

    return table(blocks, range(rows), range(rows))


def fullest_row(method: Method, n: int) -> int:
    blocks = blocks_of(method)
    return int(table_of(blocks, -(-n // blocks.size)).sum(1).max())


def reached(method: Method, n: int, depth: int) -> float:
    """Share of blocks from which a path of at most `depth` links leads to the last block."""
    import torch

    blocks = blocks_of(method)
    links = table_of(blocks, -(-n // blocks.size))
    known = torch.zeros(len(links), dtype=torch.bool)
    known[-1] = True
    for _ in range(depth):
        known = links[known].any(0)  # a block always reads itself
    return float(known.float().mean())
