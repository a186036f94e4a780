"""Stride slash, a baseline of PowerAttention (arXiv 2503.03588): delta < window_blocks or stride | delta or c <
sink_blocks.

The paper uses 6 local blocks, 1 sink block and 3 slash blocks of 256 tokens but does not print the stride; 32 gives
exactly three slash blocks at 32K, so that is the default here (our choice).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from methods.patterns.windowed import WindowAndSinks


@dataclass(frozen=True, kw_only=True)
class StrideSlash(WindowAndSinks):
    """A window, and every `stride`-th block before it."""

    name = "stride_slash"
    title = "Window plus evenly spaced block diagonals"
    paper = "2503.03588"
    options = WindowAndSinks.options | {"stride": "distance between two block diagonals"}

    window_blocks: int = 6
    stride: int = 32

    def keep(self, h: Any, a: Any, c: Any) -> Any:
        delta = a - c
        return (delta < self.window_blocks) | (delta % self.stride == 0) | (c < self.sink_blocks)

    def validate(self) -> None:
        super().validate()
        self.require(self.stride >= 1, "stride", "diagonals are at least one block apart")
