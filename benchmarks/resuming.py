"""How long it takes to find out that nothing is left of a sweep of 1,000 finished cells.

How it is measured: dense on 1,000 `passkey` tasks of one short prompt each (other seeds) is really run once (minutes); then the same
command is timed N times, from the start of the process to its end, the table of 1,000 rows included. The share that Python and the
libraries need to start is shown by the time of `heed list methods`.

    python benchmarks/resuming.py [--cells 1000] [--repeats 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ENV = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def heed(*words: str) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(
        [str(Path(sys.executable).with_name("heed")), *words], env=ENV, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - start, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = ["run", "model=micro-lm", "method=[]", "task=[passkey]", "task.passkey.lengths=[256]", "task.passkey.depths=[50]",
                   "task.passkey.trials=1", "efficiency=off", "tracking=disabled", f"results={folder}"]  # fmt: skip
        for i in range(args.cells - 1):
            command += [f"+task.t{i}=${{task.passkey}}", f"task.t{i}.seed={i + 1}"]
        first, _ = heed(*command)
        print(f"{args.cells} cells run in {first:.0f} s", flush=True)
        times = []
        for _ in range(args.repeats):
            seconds, out = heed(*command)
            assert f"{args.cells} finished before, 0 to run" in out, out[:500]
            times.append(seconds)
    start = statistics.median(heed("list", "methods")[0] for _ in range(args.repeats))
    print(
        f"nothing left: {statistics.median(times):.2f} s (from {min(times):.2f} to {max(times):.2f}); bare start {start:.2f} s"
    )


if __name__ == "__main__":
    main()
