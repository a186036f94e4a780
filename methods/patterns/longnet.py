"""LongNet (Ding et al. 2023, arXiv 2307.02486) in the block form compared in PowerAttention (arXiv 2503.03588).

Segments of 8, 16, 32, 64 and 128 blocks, dilated by 1, 2, 4, 8 and 16. Two blocks share an aligned segment of w (a
power of two) iff a xor c < w, and both lie on the grid of rate r iff (a or c) mod r == 0, so a key block is read iff
for one (w, r)

    (a ^ c) < w  and  (a | c) & (r - 1) == 0.

No sink. Deviation from the original: one mixed mask instead of a weighted sum over the segment sizes, and no per-head
offset; both as in the comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from methods.patterns.static import BLOCK, FULL, StaticPattern


@dataclass(frozen=True, kw_only=True)
class LongNet(StaticPattern):
    """The union of aligned segments, the longer the sparser."""

    name = "longnet"
    title = "LongNet: dilated segments of growing length"
    paper = "2307.02486"
    options = {
        "block_size": BLOCK,
        "widths": "segment lengths in blocks, powers of two",
        "rates": "dilation of each segment length, powers of two",
        "full_layers": FULL,
    }

    widths: tuple[int, ...] = (8, 16, 32, 64, 128)
    rates: tuple[int, ...] = (1, 2, 4, 8, 16)

    def keep(self, h: Any, a: Any, c: Any) -> Any:
        same, either = a ^ c, a | c
        kept = a == c
        for width, rate in zip(self.widths, self.rates, strict=True):
            kept = kept | ((same < width) & (either & (rate - 1) == 0))
        return kept

    def _smaller(self, n: int) -> dict[str, dict[str, Any]]:
        return super()._smaller(n) | {"widths": {"widths": (1,), "rates": (1,)}}

    def validate(self) -> None:
        super().validate()
        self.require(len(self.widths) == len(self.rates) > 0, "rates", "there is one rate for each width")
        for key in ("widths", "rates"):
            self.require(all(n > 0 and n & (n - 1) == 0 for n in getattr(self, key)), key, "all must be powers of two")
