"""Planning 10,000 cells: from the command-line overrides to cells with run ids and what is done.

How it is measured: wall time of `compose` + `cells` + the look for DONE files, in a process without torch, median of R
runs. The plan is
100 methods (99 variants of `power` with different parameters, and dense) x 100 tasks (variants of `passkey`) x 1 model.

    python benchmarks/planning.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from harness.config.compose import compose
from harness.plan.cells import cells, is_done


def overrides(methods: int, tasks: int) -> list[str]:
    out = ["method=[dense,power]", "task=[passkey]"]
    for i in range(methods - 2):
        out += [f"+method.p{i}=${{method.power}}", f"method.p{i}.window_blocks={i + 6}"]
    for i in range(tasks - 1):
        out += [f"+task.t{i}=${{task.passkey}}", f"task.t{i}.trials={i + 3}"]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    times = []
    for _ in range(parser.parse_args().repeats):
        start = time.perf_counter()
        plan = cells(compose(overrides(100, 100)))
        left = sum(not is_done(Path("results"), c.run_id) for c in plan)
        times.append(time.perf_counter() - start)
    assert "torch" not in sys.modules
    print(
        f"{len(plan)} cells ({left} to run): {statistics.median(times):.2f} s (bar 1 s); runs {[round(t, 2) for t in times]}"
    )


if __name__ == "__main__":
    main()
