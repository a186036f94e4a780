"""How busy the machine was with other things while something was measured: on a CPU that decides what a time is worth.

Processors kept busy by anyone but this process, as an average over the stretch: (busy time of all processors, stolen time
included - processor time of this process) / wall time. 0 on a machine of one's own, 1 if one other process ran all the
time. Linux counts in steps of 10 ms, so a stretch of a second is known to a few hundredths.
"""

from __future__ import annotations

import time

import psutil

IDLE = ("idle", "iowait", "guest", "guest_nice")  # guest time is counted under user, too


class OtherLoad:
    """Starts to watch when it is made; `read()` gives the processors that others used since then."""

    def __init__(self) -> None:
        self._wall, self._busy, self._own = time.perf_counter(), _busy(), time.process_time()

    def read(self) -> float:
        wall = time.perf_counter() - self._wall
        others = (_busy() - self._busy) - (time.process_time() - self._own)
        return round(max(0.0, others) / max(wall, 1e-9), 3)


def _busy() -> float:
    """Seconds that all processors together have been busy."""
    times = psutil.cpu_times()._asdict()
    return sum(seconds for kind, seconds in times.items() if kind not in IDLE)
