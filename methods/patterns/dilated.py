"""Dilated window, a baseline of PowerAttention (arXiv 2503.03588): every second block of a window of 20, no sink.

A key block is read iff (dilation + 1) divides delta and delta < span_blocks. Blocks at odd distances are never reached,
in any number of layers. The paper's listing calls a helper it does not define; this is its text (dilation 1: one block
is skipped).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from methods.patterns.static import BLOCK, FULL, StaticPattern


@dataclass(frozen=True, kw_only=True)
class DilatedWindow(StaticPattern):
    """A window with gaps."""

    name = "dilated"
    title = "Dilated window of blocks"
    paper = "2503.03588"
    options = {
        "block_size": BLOCK,
        "span_blocks": "distances below this many blocks may be read",
        "dilation": "blocks skipped between two that are read; 0: none",
        "sink_blocks": "blocks at the start that everyone reads",
        "full_layers": FULL,
    }

    span_blocks: int = 20
    dilation: int = 1
    sink_blocks: int = 0

    def keep(self, h: Any, a: Any, c: Any) -> Any:
        delta = a - c
        return ((delta % (self.dilation + 1) == 0) & (delta < self.span_blocks)) | (c < self.sink_blocks)

    def _smaller(self, n: int) -> dict[str, dict[str, Any]]:
        return self._lowered(span_blocks=1, sink_blocks=0) | super()._smaller(n)

    def validate(self) -> None:
        super().validate()
        self.require(self.span_blocks >= 1, "span_blocks", "the window holds at least the block of the query")
        self.require(self.dilation >= 0, "dilation", "it cannot be negative")
        self.require(self.sink_blocks >= 0, "sink_blocks", "it cannot be negative")
