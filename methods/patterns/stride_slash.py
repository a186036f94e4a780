"""Stride slash, a baseline of PowerAttention (arXiv 2503.03588): delta < window_blocks or stride | delta or c <
sink_blocks.

The paper uses 6 local blocks, 1 sink block and 3 slash blocks of 256 tokens but does not print the stride; 32 gives
exactly three slash blocks at 32K, so that is the default here (our choice).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from methods.patterns.static import BLOCK, FULL, StaticPattern


@dataclass(frozen=True, kw_only=True)
class StrideSlash(StaticPattern):
    """A window, and every `stride`-th block before it."""

    name = "stride_slash"
    title = "Window plus evenly spaced block diagonals"
    paper = "2503.03588"
    options = {
        "block_size": BLOCK,
        "window_blocks": "distances below this many blocks are read",
        "sink_blocks": "blocks at the start that everyone reads",
        "stride": "distance between two block diagonals",
        "full_layers": FULL,
    }

    window_blocks: int = 6
    sink_blocks: int = 1
    stride: int = 32

    def keep(self, h: Any, a: Any, c: Any) -> Any:
        delta = a - c
        return (delta < self.window_blocks) | (delta % self.stride == 0) | (c < self.sink_blocks)

    def validate(self) -> None:
        super().validate()
        self.require(self.window_blocks >= 1, "window_blocks", "the window holds at least the block of the query")
        self.require(self.sink_blocks >= 0, "sink_blocks", "it cannot be negative")
        self.require(self.stride >= 1, "stride", "diagonals are at least one block apart")
