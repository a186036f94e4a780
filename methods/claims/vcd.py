"""VCD (arXiv 2311.16922): its noise schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.contracts.check import Check, Finding
from methods.contrast.vcd import signal

if TYPE_CHECKING:
    from harness.contracts.check import Bench


@dataclass(frozen=True, kw_only=True)
class Signal(Check):
    """abar_t, the share of the variance that is still picture, after each of `steps`."""

    steps: tuple[int, ...]

    def measure(self, bench: Bench) -> Finding:
        return Finding([signal(step) for step in self.steps])
