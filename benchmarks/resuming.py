"""How long it takes to find out that nothing is left of a sweep of 1,000 finished cells: 20 methods x 50 tasks.

How it is measured: `dense` and 19 variants of `streaming_kv` on 50 `passkey` tasks of one short prompt each (other seeds) are really
run once (minutes); then the same command is timed N times, from the start of the process to its end, the table of 1,000 rows
included, and also to its line "0 to run". The share that Python and the libraries need to start is shown by the time of
`heed list methods`. `--methods 1 --tasks 1000` is the hardest shape: a thousand tasks are a thousand tables and 2,000 overrides.

    python benchmarks/resuming.py [--methods 20] [--tasks 50] [--repeats 5]
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


def heed(*words: str, until: str = "") -> tuple[float, float, str]:
    """Seconds to the end, seconds to the first line with `until`, and the output."""
    start = time.perf_counter()
    command = [str(Path(sys.executable).with_name("heed")), *words]
    lines, told = [], 0.0
    with subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            lines.append(line)
            if until in line and not told:
                told = time.perf_counter() - start
    if process.returncode:
        sys.exit("".join(lines)[-4000:])
    return time.perf_counter() - start, told, "".join(lines)


def variants(group: str, base: str, n: int, key: str, first: int, step: int) -> list[str]:
    """Overrides for `n` copies of an option, each with another value of one key."""
    made = [(f"{base}_{i}", first + step * i) for i in range(n)]
    return [w for label, x in made for w in (f"+{group}.{label}=${{{group}.{base}}}", f"{group}.{label}.{key}={x}")]


def spread(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} s (from {min(times):.2f} to {max(times):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=int, default=20, help="dense and variants of streaming_kv")
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    cells = args.methods * args.tasks
    with tempfile.TemporaryDirectory() as folder:
        command = ["run", "model=micro-lm", "task=[passkey]", "task.passkey.lengths=[256]", "task.passkey.depths=[50]",
                   "task.passkey.trials=1", "efficiency=off", "tracking=disabled", f"results={folder}"]  # fmt: skip
        command += variants("task", "passkey", args.tasks - 1, "seed", first=1, step=1)
        command += ["method=[streaming_kv]" if args.methods > 1 else "method=[]"]
        command += variants("method", "streaming_kv", args.methods - 2, "recent", first=16, step=8)
        first, _, _ = heed(*command)
        print(f"{cells} cells run in {first:.0f} s", flush=True)
        ends, tolds = [], []
        for _ in range(args.repeats):
            end, told, out = heed(*command, until="0 to run")
            assert f"{cells} cells, {cells} finished before, 0 to run" in out, out[:500]
            ends.append(end)
            tolds.append(told)
    start = statistics.median(heed("list", "methods")[0] for _ in range(args.repeats))
    print(f"nothing left: told after {spread(tolds)}, table and end after {spread(ends)}; bare start {start:.2f} s")


if __name__ == "__main__":
    main()
