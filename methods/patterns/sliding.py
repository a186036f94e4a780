"""Sliding window with a sink block, as compared in PowerAttention (arXiv 2503.03588): delta < window_blocks or c <
sink_blocks.

The equal-cost baseline of that paper: 9 local blocks and 1 sink block of 256 tokens. The token-exact form of
StreamingLLM is `streaming`, the one that really drops keys is `streaming_kv`. Deviation: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from methods.patterns.windowed import WindowAndSinks


@dataclass(frozen=True, kw_only=True)
class SlidingWindow(WindowAndSinks):
    """The nearest blocks and the first ones."""

    name = "sliding"
    title = "Sliding window of blocks with sink blocks"
    paper = "2503.03588"

    window_blocks: int = 9

    def keep(self, h: Any, a: Any, c: Any) -> Any:
        return (a - c < self.window_blocks) | (c < self.sink_blocks)
