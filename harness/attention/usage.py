"""Counts of what was really read, next to what dense attention would have read. One unit is one (query, key) pair of
one head.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Usage:
    """Sums since the last reset. Values may be tensors until they are reported, so that counting does not wait for a
    device.
    """

    read: dict[str, Any] = field(default_factory=lambda: {"prefill": 0, "decode": 0})
    nominal: dict[str, int] = field(default_factory=lambda: {"prefill": 0, "decode": 0})
    decode_rows: int = 0  # samples x layers x heads x steps
    touched: set[int] = field(default_factory=set)
    kept: dict[int, int] = field(default_factory=dict)  # layer -> keys in its cache after its last call
    seen: dict[int, int] = field(default_factory=dict)  # layer -> tokens it has seen
    simulated: bool = False
    told: dict[str, list[Any]] = field(default_factory=dict)  # what the method itself reports: [sum, how often]

    def tell(self, name: str, value: Any) -> None:
        """One more value of a number that the method reports; tensors are averaged."""
        value = value.float().mean() if torch.is_tensor(value) else value
        entry = self.told.setdefault(name, [0.0, 0])
        entry[0], entry[1] = entry[0] + value, entry[1] + 1

    def count(self, phase: str, layer: int, read: Any, nominal: int, rows: int, touched: bool) -> None:
        """One layer call."""
        self.read[phase] = self.read[phase] + read
        self.nominal[phase] += nominal
        self.decode_rows += rows if phase == "decode" else 0
        if touched:
            self.touched.add(layer)

    def report(self) -> dict[str, Any]:
        """Measured usage; a density is None where the phase did not occur.

        `pairs_*` are sums over layers, heads and samples; `keys_read` is the mean number of keys a head reads in one
        decode step; `kv_tokens_kept` the mean over layers of the keys in the cache after the last forward,
        `kv_tokens_seen` what an uncompressed cache would hold.
        """
        read = {phase: int(torch.as_tensor(n)) for phase, n in self.read.items()}
        total, nominal = sum(read.values()), sum(self.nominal.values())
        by_phase = {phase: read[phase] / n if n else None for phase, n in self.nominal.items()}
        return {
            "layers_touched": sorted(self.touched),
            "pairs_read": total,
            "pairs_visible": nominal,
            "density": total / nominal if nominal else None,
            "density_prefill": by_phase["prefill"],
            "density_decode": by_phase["decode"],
            "keys_read": read["decode"] / self.decode_rows if self.decode_rows else None,
            "kv_tokens_kept": _mean(self.kept),
            "kv_tokens_seen": _mean(self.seen),
            "simulated": self.simulated,
            **{f"method_{name}": float(total) / n for name, (total, n) in sorted(self.told.items())},
        }


def _mean(values: dict[int, int]) -> float | None:
    return sum(values.values()) / len(values) if values else None
