"""Work of other processes is seen, one's own is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from harness.efficiency.load import OtherLoad

SPIN = "import time; end = time.time() + 30\nwhile time.time() < end: pass"


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_another_process_counts_and_this_one_does_not() -> None:
    alone = OtherLoad()
    spin(1.0)
    before = alone.read()
    with subprocess.Popen([sys.executable, "-c", SPIN]) as other:
        try:
            time.sleep(0.3)
            watch = OtherLoad()
            time.sleep(1.0)  # leaves a processor to the other one, however busy the machine is
            assert watch.read() > 0.3
        finally:
            other.kill()
    assert before < 1.1 * (os.cpu_count() or 1)  # no unit is mixed up
