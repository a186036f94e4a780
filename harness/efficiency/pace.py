"""How fast the machine is at this moment: the time of a fixed piece of work, to set beside what is measured.

Clock rates change, and a virtual machine's neighbours come and go in stretches of minutes: equal code was seen to take
1.3 to 1.6 times as long a few minutes later, with no other process on the machine. No number of repetitions within one
measurement shows that; a piece of work that never changes does. It is made of what a small model's step is made of: some
matrix products, and many small operations whose cost is Python's and the library's.
"""

from __future__ import annotations

import time

import torch

LARGE, SMALL, STEPS = 320, 48, 120


class Pace:
    """`read()` does the work once, about 5 to 10 ms on one core, and gives its milliseconds."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self._large = torch.randn(LARGE, LARGE, generator=draw) / LARGE**0.5
        self._small = torch.randn(SMALL, SMALL, generator=draw) / SMALL**0.5
        self.read()

    def read(self) -> float:
        start = time.perf_counter()
        x, y = self._large, self._small
        for _ in range(4):
            x = x @ self._large
        for _ in range(STEPS):
            y = (y @ self._small).softmax(-1) + self._small
        return 1e3 * (time.perf_counter() - start)
