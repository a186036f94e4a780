"""StreamingLLM as a mask (Xiao et al. 2023, arXiv 2309.17453): the first `sinks` tokens and the last `recent` ones.

With logical positions a key j is read by a query i iff

    j < sinks  or  i - j < recent.

This is the form with absolute positions: nothing is dropped from the cache, and the distance to the sinks keeps
growing, so it does not extrapolate beyond the trained length as the original claims to. The original drops keys and
numbers positions by their place in the cache: that is `streaming_kv`. Published: 4 sinks, 2000 recent tokens (demo).
Deviation: prefill is masked as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.contracts.call import Blocks
from methods.patterns.static import BLOCK, FULL, StaticPattern


@dataclass(frozen=True, kw_only=True)
class StreamingMask(StaticPattern):
    """Sinks and a window, exact to the token."""

    name = "streaming"
    title = "StreamingLLM as a mask (absolute positions)"
    paper = "2309.17453"
    budget_unit = "tokens read by one query"
    options = {
        "sinks": "tokens at the start that everyone reads",
        "recent": "nearest tokens that are read, the query's own included",
        "block_size": BLOCK,
        "full_layers": FULL,
    }

    sinks: int = 4
    recent: int = 2000

    def keep(self, h: Any, a: Any, c: Any) -> Any:
        """Blocks that hold a readable token for any query of block `a`."""
        return (c * self.block_size < self.sinks) | ((a - c) * self.block_size < self.recent + self.block_size - 1)

    def token(self, i: Any, j: Any) -> Any:
        """Exactly the readable tokens."""
        return (j < self.sinks) | (i - j < self.recent)

    def blocks(self) -> Blocks:
        return Blocks(self.block_size, self.keep, self.token)

    def validate(self) -> None:
        super().validate()
        self.require(self.sinks >= 0, "sinks", "it cannot be negative")
        self.require(self.recent >= 1, "recent", "a query reads at least itself")

    def idle(self, n: int) -> str:
        if n > self.sinks + self.recent:
            return ""
        return (
            f"{self.sinks} sinks and {self.recent} recent tokens cover the whole context of {n} tokens; "
            f"{self.lower(recent=n > self.sinks + 1, sinks=n > self.recent)}"
        )

    def receptive_field(self, n: int, n_layers: int) -> float | None:
        """Exact to the token: every windowed layer adds `recent - 1` tokens of reach."""
        if any(layer in self.full_layers for layer in range(n_layers)):
            return 1.0
        return min(n, self.sinks + 1 + n_layers * (self.recent - 1)) / n
