"""In which layers of a model of a given depth a method acts: published layer numbers against shares of the depth."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from harness.claims.checks.base import OfMethod, built
from harness.contracts.check import Finding
from harness.terminal.ranges import ranges

if TYPE_CHECKING:
    from harness.contracts.check import Bench


@dataclass(frozen=True, kw_only=True)
class Layers(OfMethod):
    """Layers, counted from 0, in which the method acts in a model of `n_layers` of a family (`model_type`). No model is loaded."""

    n_layers: int
    family: str = "llama"

    def measure(self, bench: Bench) -> Finding:
        depth: Any = SimpleNamespace(n_layers=self.n_layers, family=self.family)
        return Finding(ranges([i for i in built(self.method).layers(depth) if i < self.n_layers]))
