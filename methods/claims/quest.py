"""Quest (arXiv 2406.10774): the score of a page bounds every key in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.contracts.check import Check, Finding
from methods.selection.quest import page_scores

if TYPE_CHECKING:
    from harness.contracts.check import Bench


@dataclass(frozen=True, kw_only=True)
class PageBound(Check):
    """Smallest excess of a page's score over the largest q . k in it, over random float64 queries and keys."""

    pages: int = 64
    page: int = 16
    heads: int = 8
    width: int = 32

    def measure(self, bench: Bench) -> Finding:
        import torch

        draw = torch.Generator().manual_seed(0)
        q = torch.randn(1, self.heads, 1, self.width, generator=draw, dtype=torch.float64)
        k = torch.randn(1, self.heads, self.pages, self.page, self.width, generator=draw, dtype=torch.float64)
        scores = page_scores(q, k.amin(3), k.amax(3))
        largest = (k @ q[:, :, None].transpose(-1, -2)).squeeze(-1).amax(-1)
        return Finding(float((scores - largest).min()))
