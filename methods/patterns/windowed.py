"""What patterns with a window of blocks and sink blocks share: power, sliding, stride slash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from methods.patterns.static import BLOCK, FULL, StaticPattern


@dataclass(frozen=True, kw_only=True)
class WindowAndSinks(StaticPattern):
    """The nearest blocks, the first ones, and what a subclass adds. How wide the window is by default, it says too."""

    options = {
        "block_size": BLOCK,
        "window_blocks": "distances below this many blocks are read",
        "sink_blocks": "blocks at the start that everyone reads",
        "full_layers": FULL,
    }

    window_blocks: int
    sink_blocks: int = 1

    def validate(self) -> None:
        super().validate()
        self.require(self.window_blocks >= 1, "window_blocks", "the window holds at least the block of the query")
        self.require(self.sink_blocks >= 0, "sink_blocks", "it cannot be negative")

    def _smaller(self, n: int) -> dict[str, dict[str, Any]]:
        return self._lowered(window_blocks=1, sink_blocks=0) | super()._smaller(n)
