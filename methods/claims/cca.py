"""CCA (arXiv 2410.15926): what rings do to positions and to visibility."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.contracts.check import Check, Finding
from methods.positions.cca import positions, ring_pairs, rings

if TYPE_CHECKING:
    from harness.contracts.check import Bench


@dataclass(frozen=True, kw_only=True)
class Positions(Check):
    """A prompt of `before` text tokens, an image of `side` x `side` tokens and `after` text tokens: the number of rings, the
    last position, and how many image tokens the border and the centre see.
    """

    side: int
    before: int
    after: int

    def measure(self, bench: Bench) -> Finding:
        import torch

        ring = torch.full((1, self.before + self.side**2 + self.after), -1)
        image = slice(self.before, self.before + self.side**2)
        ring[0, image] = rings(self.side, self.side)
        seen = ring_pairs(ring)[1][0, 0, image, image].sum(1)
        centre = (self.side // 2) * self.side + self.side // 2
        return Finding({
            "rings": int(ring.max()) + 1,
            "last": int(positions(ring, torch.ones_like(ring))[0, -1]),
            "border": int(seen[0]),
            "centre": int(seen[centre]),
        })  # fmt: skip
