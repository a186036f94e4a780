"""PowerAttention (Chen et al. 2025, arXiv 2503.03588): links to the blocks at distance 0, 1, 2, 4, 8, ...

With delta = a - c (query block minus key block) a key is read iff

    delta < window_blocks  or  delta is a power of two  or  c < sink_blocks.

One layer is one step along a link; any earlier block is popcount(delta) steps away, so d layers see up to 2^d blocks
without holes while a row has only O(log) links. Published: blocks of 256, window 5, one sink block; the same mask in
all heads and layers, prefill and decode. For RULER the paper keeps 2 of every 7 layers dense (which two is not stated):
`full_layers`. Deviation: none known; the authors' code was not available.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from methods.patterns.windowed import WindowAndSinks


@dataclass(frozen=True, kw_only=True)
class PowerAttention(WindowAndSinks):
    """Window, sink and power-of-two distances, in blocks."""

    name = "power"
    title = "PowerAttention: exponentially spaced block links"
    paper = "2503.03588"

    window_blocks: int = 5

    def keep(self, h: Any, a: Any, c: Any) -> Any:
        delta = a - c
        return (delta < self.window_blocks) | (delta & (delta - 1) == 0) | (c < self.sink_blocks)
