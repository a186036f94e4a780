"""VISTA (arXiv 2502.03628): which late layers are mixed into the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.contracts.check import Check, Finding
from methods.activations.vista import WINDOW, window

if TYPE_CHECKING:
    from harness.contracts.check import Bench


@dataclass(frozen=True, kw_only=True)
class LateLayers(Check):
    """The layers, counted from 0, in a model of `n_layers`."""

    n_layers: int
    mode: Literal["release", "paper"] = "release"

    def measure(self, bench: Bench) -> Finding:
        return Finding(list(window(self.n_layers, WINDOW[self.mode])))
