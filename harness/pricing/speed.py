"""How fast this machine is. A processor is measured in a moment with numpy: a matrix product, memory, and a small array operation.

A forward takes

    operations / (product speed x a share) + layer calls x small operations for each call x seconds of one,

and a decode step moves its bytes if that takes longer than computing. The shares and the number of small operations are
what the library needs on a CPU, found once by timing the zoo's models (processor time of one thread, on prompts of 100 to
2000 tokens); elsewhere they hold within a factor of about two, which is why earlier runs on the same machine correct the
estimate where there are any.

A GPU is measured as the bench measures it (`efficiency/machine.py`), which loads torch. It computes while the processor
prepares the next call, so there the longer of the two counts, not their sum.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from harness.pricing.work import Work

SIDE = 512  # of the square matrices: a product of them fits between two interruptions
BLOCK = 1 << 26  # bytes that are copied
SMALL = 2000  # small operations in one timing
TRIES = 12
WEIGHTS_SHARE = 0.6  # of the product's speed that a model's weights reach
ATTENTION_SHARE = 0.35  # the same for attention: small products, masks and a softmax between them
LAYER_CALL = 2000.0  # small array operations that one layer's forward is worth, whatever it computes
HOOKED = 1.5  # the same for a layer that a method hooks into, as a factor
START = 1.3e7  # small operations that starting a process and importing the libraries is worth
LOAD = 1.0e9  # bytes of weights loaded in a second
SETTLE = 8.0  # seconds until a GPU has its context and the kernels that are loaded at first use (seen on one H200)


@dataclass(frozen=True)
class Speeds:
    """Operations and bytes in a second, and seconds of one small array operation on the processor. `overlap`: calls are
    prepared while earlier ones compute.
    """

    flops: float
    bandwidth: float
    small: float
    overlap: bool = False

    def prefill(self, work: Work, hooked: bool = False) -> float:
        """Seconds."""
        compute = work.weights / WEIGHTS_SHARE + (work.attention + work.masked) / ATTENTION_SHARE
        return self._with_calls(max(compute / self.flops, work.moved / self.bandwidth), work, hooked)

    def decode(self, work: Work, hooked: bool = False) -> float:
        """Seconds. One query against a cache is memory-bound: its operations count as the weights' do."""
        compute = (work.weights + work.attention) / WEIGHTS_SHARE
        slower = max(compute / self.flops, work.moved / self.bandwidth)
        return self._with_calls(slower + work.copied / self.bandwidth, work, hooked)

    def start(self) -> float:
        """Seconds until a process is ready to load a model."""
        return START * self.small

    def _with_calls(self, computing: float, work: Work, hooked: bool) -> float:
        calling = work.calls * LAYER_CALL * self.small * (HOOKED if hooked else 1.0)
        return max(computing, calling) if self.overlap else computing + calling


@lru_cache(maxsize=1)
def measured() -> Speeds:
    """Of this machine, now; well below a second."""
    import numpy as np

    a = np.ones((SIDE, SIDE), dtype=np.float32)
    out = np.empty_like(a)
    source = np.ones(BLOCK // 4, dtype=np.float32)
    target = np.empty_like(source)
    x, y = np.ones(64, dtype=np.float32), np.empty(64, dtype=np.float32)

    def small() -> None:
        for _ in range(SMALL):
            np.add(x, x, out=y)

    return Speeds(
        flops=2 * SIDE**3 / _best(lambda: np.matmul(a, a, out=out)),
        bandwidth=2 * BLOCK / _best(lambda: np.copyto(target, source), time.thread_time),
        small=_best(small, time.thread_time) / SMALL,
    )


@lru_cache(maxsize=8)
def of_gpu(device: str, element: int) -> Speeds | None:
    """Of a GPU in a number format of `element` bytes; None where torch cannot use it, or its memory is taken."""
    import torch

    from harness.efficiency.machine import peaks

    formats = {2: torch.bfloat16, 4: torch.float32, 8: torch.float64}
    try:
        found = peaks(torch.device(device), formats[element])
    except (RuntimeError, AssertionError):  # the latter from a torch that was built without CUDA
        return None
    return Speeds(found.flops, found.bandwidth, measured().small, overlap=True)


def _best(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the fastest of a few calls, after one that is not counted. What runs in one thread is timed by the
    thread's own clock, which stands still while others have the processor.
    """
    seconds = []
    for _ in range(TRIES + 1):
        start = clock()
        run()
        seconds.append(clock() - start)
    return min(seconds[1:])
