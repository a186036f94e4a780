"""DoLa (arXiv 2309.03883): which hidden states are candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.contracts.check import Check, Finding
from methods.contrast.dola import bucket

if TYPE_CHECKING:
    from harness.contracts.check import Bench


@dataclass(frozen=True, kw_only=True)
class Candidates(Check):
    """Candidates of both buckets in a model of `n_layers`."""

    n_layers: int

    def measure(self, bench: Bench) -> Finding:
        return Finding({which: list(bucket(self.n_layers, which)) for which in ("low", "high")})
