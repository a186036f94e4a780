"""What this machine can do at best, measured on the spot: the speed of a big matrix product, and of memory.

No data sheet is quoted: a bound from numbers that this machine cannot reach would flatter nobody. The product is of two
square matrices in the number format of the model; a multiplication with its addition counts as two operations. Memory
is a block far larger than any cache, once copied (bytes read and written both count) and once only read (a sum), and
the faster of the two stands: a copy on a CPU also fetches the lines that it is about to overwrite, which nobody counts.

The best of several tries is taken, since a bound asks what is possible, not what is usual. The bench measures before its
first point and after every one, and keeps the best: a machine that was busy during one of them does not lower the bound.
Even so a share of the bound may exceed 1, where data stays in a cache, which is faster than memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from harness.efficiency.measure import now

TRIES = 5
SIDE = {"cuda": 8192, "cpu": 1536}  # of the square matrices
BLOCK = {"cuda": 1 << 30, "cpu": 1 << 27}  # bytes that are copied


@dataclass(frozen=True)
class Peaks:
    """Floating-point operations and bytes per second, and what they were measured with, in words."""

    flops: float
    bandwidth: float
    product: str = ""
    memory: str = ""

    def bound(self, flops: float, moved: float) -> float:
        """Seconds below which work of `flops` operations and `moved` bytes cannot fall (the roofline of Williams,
        Waterman and Patterson, 2009).
        """
        return max(flops / self.flops, moved / self.bandwidth)

    def best(self, other: Peaks) -> Peaks:
        """The better of two measurements on one machine, each number by itself."""
        compute = max(self, other, key=lambda p: p.flops)
        memory = max(self, other, key=lambda p: p.bandwidth)
        return Peaks(compute.flops, memory.bandwidth, compute.product, memory.memory)

    def __str__(self) -> str:
        return f"{si(self.flops)}FLOP/s ({self.product}), {si(self.bandwidth)}B/s ({self.memory})"


def peaks(device: torch.device, dtype: torch.dtype) -> Peaks:
    """Measure them; a second or less."""
    kind = device.type if device.type in SIDE else "cpu"
    side, block = SIDE[kind], BLOCK[kind]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    product = _best(lambda: torch.matmul(a, b, out=out), device)
    source = torch.ones(block // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    rates = {
        f"copy of {block >> 20} MiB": 2 * block / _best(lambda: target.copy_(source), device),
        f"sum over {block >> 20} MiB": block / _best(source.sum, device),
    }
    fastest = max(rates, key=lambda name: rates[name])
    name = str(dtype).removeprefix("torch.")
    return Peaks(2 * side**3 / product, rates[fastest], f"{name} product of {side} x {side}", fastest)


def _best(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of a few calls, after one that is not counted."""
    seconds = []
    for _ in range(TRIES + 1):
        start = now([device])
        run()
        seconds.append(now([device]) - start)
    return min(seconds[1:])


def si(value: float) -> str:
    """Three digits and a decimal prefix, ready for a unit.

    >>> si(9.87e10), si(512), si(0)
    ('98.7 G', '512 ', '0 ')
    """
    power = min(int(math.log10(value) // 3), 6) if value >= 1 else 0
    return f"{value / 1000**power:.3g} {' KMGTPE'[power].strip()}"
