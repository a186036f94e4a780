"""Two Slurm nodes against one on the same sweep.

How it is measured: wall time of `heed run -m launcher=slurm` from its start to its end (submission, queue, starting Python and
loading the model in every job, the samples, the final table), on a real Slurm of this machine (tests/slurm/cluster.py) with
nodes of one core each; jobs use one thread. The sweep is 3 methods x 4 tasks on micro-lm in 4 jobs. One node and two nodes
take turns, R rounds, each in a results folder of its own; ratio of the medians. It says what the ratio could be on this machine
without a scheduler: two processes of pure arithmetic at once against one after the other (1.0 on a machine with one core,
2.0 where two cores do not disturb each other).

    python benchmarks/two_nodes.py [--rounds 3] [--samples 60]
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

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.slurm.cluster import Cluster, missing

BAR = 1.8
HEED = "import sys; from harness.cli import main; sys.exit(main())"
SPIN = "import torch; torch.set_num_threads(1); x = torch.randn(256, 256)\nfor _ in range(4000): y = x @ x"


def overrides(samples: int) -> list[str]:
    tasks = ["task=[passkey]", "task.passkey.lengths=[512]", f"task.passkey.trials={samples // 5}"]
    for i in range(3):
        tasks += [f"+task.t{i}=${{task.passkey}}", f"task.t{i}.trials={samples // 5}", f"task.t{i}.seed={i + 1}"]
    return ["method=[dense,power,quest]", *tasks, "efficiency=off", "tracking=disabled", "jobs=4"]


def seconds(nodes: int, samples: int) -> float:
    with Cluster(nodes) as cluster, tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-c",
            HEED,
            "run",
            "-m",
            "launcher=slurm",
            *overrides(samples),
            f"results={folder}/results",
        ]
        start = time.perf_counter()
        done = subprocess.run(command, env=cluster.env, capture_output=True, text=True)
        spent = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return spent


def cores() -> float:
    """How much faster two processes are side by side than one after the other, here and now."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}

    def spin(n: int) -> float:
        start = time.perf_counter()
        for process in [subprocess.Popen([sys.executable, "-c", SPIN], env=env) for _ in range(n)]:
            process.wait()
        return time.perf_counter() - start

    spin(1)
    return 2 * statistics.median(spin(1) for _ in range(3)) / statistics.median(spin(2) for _ in range(3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=60)
    given = parser.parse_args()
    if why := missing():
        raise SystemExit(why)
    times: dict[int, list[float]] = {1: [], 2: []}
    possible = cores()
    for _ in range(given.rounds):
        for nodes, spent in times.items():
            spent.append(seconds(nodes, given.samples))
    one, two = (statistics.median(times[n]) for n in (1, 2))
    runs = {n: [round(t, 1) for t in spent] for n, spent in times.items()}
    print(
        f"one node {one:.1f} s, two nodes {two:.1f} s: {one / two:.2f}x (bar {BAR}x; these cores allow {possible:.2f}x); runs {runs}"
    )


if __name__ == "__main__":
    main()
