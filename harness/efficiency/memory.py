"""Peak memory of a stretch of code: on a GPU the allocator's peak, on a CPU the process's.

CUDA: `max_memory_allocated` after `reset_peak_memory_stats`, summed over the devices in use; weights are part of it.
CPU: Linux keeps the high-water mark of resident memory (`VmHWM`); writing 5 to `/proc/self/clear_refs` resets it. Where
that is not allowed the resident memory at the end is all that can be said, and `kind` says so. Resident memory includes
the interpreter, its libraries and what the allocator kept from before: compare the growth over `before`, not the
absolute value.

What the harness keeps to save time (pictures, encoded ones) stays where it is meanwhile and is no part of either number.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch

PROC = Path("/proc/self")


class PeakMemory:
    """Starts to watch when it is made; `read()` gives the peak in bytes since then. `aside`: bytes that are there all the
    time and do not count.
    """

    def __init__(self, devices: Sequence[torch.device], aside: int = 0) -> None:
        self.aside = aside
        self.gpus = sorted({torch.device(d) for d in devices if torch.device(d).type == "cuda"}, key=str)
        self.resets = False
        if self.gpus:
            for gpu in self.gpus:
                torch.cuda.reset_peak_memory_stats(gpu)
            self.before = sum(torch.cuda.memory_allocated(gpu) for gpu in self.gpus) - aside
        else:
            self.resets = _reset_high_water()
            self.before = psutil.Process().memory_info().rss - aside

    @property
    def kind(self) -> str:
        """What the number is: `cuda peak allocated`, `cpu peak rss`, or `cpu rss at end` where no peak is to be had."""
        if self.gpus:
            return "cuda peak allocated"
        return "cpu peak rss" if self.resets else "cpu rss at end"

    def read(self) -> int:
        if self.gpus:
            return sum(torch.cuda.max_memory_allocated(gpu) for gpu in self.gpus) - self.aside
        peak = _high_water() if self.resets else None
        if peak is None:
            return int(psutil.Process().memory_info().rss) - self.aside
        return max(peak - self.aside, self.before)


def settle(devices: Sequence[torch.device]) -> None:
    """Give back what is not used any more, so that what the next stretch takes shows as growth."""
    gc.collect()
    if any(torch.device(d).type == "cuda" for d in devices):
        torch.cuda.empty_cache()
    else:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only; elsewhere growth is a lower bound
        if trim is not None:
            trim(0)


def _reset_high_water() -> bool:
    try:
        (PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return _high_water() is not None


def _high_water() -> int | None:
    """`VmHWM` in bytes."""
    try:
        lines = (PROC / "status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
