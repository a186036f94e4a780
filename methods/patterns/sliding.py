"""Sliding window with a sink block, as compared in PowerAttention (arXiv 2503.03588): delta < window_blocks or c <
sink_blocks.

The equal-cost baseline of that paper: 9 local blocks and 1 sink block of 256 tokens. The token-exact form of
StreamingLLM is `streaming`, the one that really drops keys is `streaming_kv`. Deviation: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from methods.patterns.static import BLOCK, FULL, StaticPattern


@dataclass(frozen=True, kw_only=True)
class SlidingWindow(StaticPattern):
    """The nearest blocks and the first ones."""

    name = "sliding"
    title = "Sliding window of blocks with sink blocks"
    paper = "2503.03588"
    options = {
        "block_size": BLOCK,
        "window_blocks": "distances below this many blocks are read",
        "sink_blocks": "blocks at the start that everyone reads",
        "full_layers": FULL,
    }

    window_blocks: int = 9
    sink_blocks: int = 1

    def keep(self, h: Any, a: Any, c: Any) -> Any:
        return (a - c < self.window_blocks) | (c < self.sink_blocks)

    def validate(self) -> None:
        super().validate()
        self.require(self.window_blocks >= 1, "window_blocks", "the window holds at least the block of the query")
        self.require(self.sink_blocks >= 0, "sink_blocks", "it cannot be negative")
