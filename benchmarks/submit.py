"""How long a plan of 10,000 cells takes from the command line to arrays in Slurm's queue.

How it is measured: wall time from the start of `heed run -m launcher=slurm ...` to the line that says the jobs are
submitted, on a real Slurm of this machine (tests/slurm/cluster.py: one slurmctld, one slurmd) that accepts the jobs and holds
them (`--hold`), so that nothing else runs meanwhile; each case in a results folder of its own.
The plan is 100 methods (variants of `power` and dense) x 100 tasks (variants of `passkey`) x 1 model:

* `jobs=N`: brackets and N array tasks;
* `names`: 100 x 100 names separated by commas, one job for each cell;
* `values`: commas in another key (`seed=range(0,N)`), one composition of the configuration for each: N is taken smaller and
  the time for each job is what counts.

    python benchmarks/submit.py [--jobs 200] [--values 200]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.slurm.cluster import Cluster, missing

N = 100
BAR = 30.0  # seconds


def variants(copies: int) -> list[str]:
    """Options of `copies` variants of power and of passkey."""
    out = []
    for i in range(copies):
        out += [f"+method.p{i}=${{method.power}}", f"method.p{i}.window_blocks={i + 6}"]
        out += [f"+task.t{i}=${{task.passkey}}", f"task.t{i}.trials={i + 3}"]
    return out


def submitted(cluster: Cluster, *overrides: str) -> tuple[float, str]:
    """(seconds until the jobs are submitted, what was said). The process is ended there; the jobs stay held."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        command = [
            sys.executable, "-u", "-c", "import sys; from harness.cli import main; sys.exit(main())", "run", "-m", "launcher=slurm",
            "launcher.additional_parameters.hold=true", *overrides, f"results={folder}/results",
        ]  # fmt: skip
        start = time.perf_counter()
        process = subprocess.Popen(command, env=cluster.env | {"COLUMNS": "200"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout
        said = []
        for line in process.stdout:
            said.append(line.strip())
            if "jobs submitted to Slurm as" in line:
                seconds = time.perf_counter() - start
                process.kill()
                process.wait()
                queued = len(cluster.run("squeue", "-h", "-r", "-o", "%i").split())
                cluster.run("scancel", "-u", "root", check=False)
                return seconds, f"{said[0].partition(';')[0]}; {queued} tasks in the queue, {line.split('as ')[1].split(';')[0].count(',') + 1} arrays"
        raise SystemExit("\n".join(said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--values", type=int, default=200)
    given = parser.parse_args()
    if why := missing():
        raise SystemExit(why)
    copies = variants(N - 1)
    cases = {
        f"brackets, jobs={given.jobs}": ["method=[dense,power]", "task=[passkey]", *variants(N - 2), f"+task.t{N}=${{task.passkey}}", f"task.t{N}.trials=2", f"jobs={given.jobs}"],
        f"values, seed=range(0,{given.values})": ["method=[dense,power]", "task=[passkey]", f"seed=range(0,{given.values})"],
    }  # fmt: skip
    del copies
    for name, overrides in cases.items():
        with Cluster(1) as cluster:
            seconds, said = submitted(cluster, *overrides)
        print(f"{name}: {seconds:.1f} s ({said})")


if __name__ == "__main__":
    main()
