"""How long a plan of 10,000 cells takes from the command line to arrays in Slurm's queue.

How it is measured: wall time from the start of `heed run -m launcher=slurm ...` to the line that says the jobs are
submitted, on a real Slurm of this machine (tests/slurm/cluster.py: one slurmctld, one slurmd) that accepts the jobs and holds
them (`--hold`), so that nothing else runs meanwhile; each case in a results folder of its own, once.

* `jobs=N`: 100 methods (99 variants of `power`, and dense) x 100 variants of `passkey` in brackets, as N array tasks;
* `names`: 100 models (tiny checkpoints) x 25 methods x 4 tasks separated by commas, one array task for each of 10,000 cells;
* `values`: commas in another key (`seed=range(0,N)`). Each value costs a composition of the configuration, so N is smaller and
  the time for each is what counts.

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
from tests.models.small import save
from tests.slurm.cluster import Cluster, missing

N = 100
BAR = 30.0  # seconds, for 10,000 cells
TASKS = ("passkey", "perplexity", "recall", "ruler")


def in_brackets(jobs: int) -> list[str]:
    """10,000 cells as one matrix."""
    out = ["method=[dense,power]", "task=[passkey]", f"jobs={jobs}"]
    for i in range(N - 2):
        out += [f"+method.p{i}=${{method.power}}", f"method.p{i}.window_blocks={i + 6}"]
    for i in range(N - 1):
        out += [f"+task.t{i}=${{task.passkey}}", f"task.t{i}.trials={i + 3}"]
    return out


def by_names(folder: Path) -> list[str]:
    """10,000 jobs by commas between names."""
    models = [str(save(folder / f"m{i}", seed=i)) for i in range(N)]
    methods = sorted(
        p.stem for p in Path(__file__).parents[1].glob("configs/method/*.yaml") if p.stem not in ("kvpress", "moda")
    )
    methods = ["dense", *(m for m in methods if m != "dense")][:25]
    return [f"model={','.join(models)}", f"method={','.join(methods)}", f"task={','.join(TASKS)}"]


def submitted(cluster: Cluster, *overrides: str) -> tuple[float, str]:
    """(seconds until the jobs are submitted, what was said). The process is ended there; the jobs stay held."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        command = [
            sys.executable, "-u", "-c", "import sys; from harness.cli import main; sys.exit(main())", "run", "-m", "launcher=slurm",
            "launcher.additional_parameters.hold=true", *overrides, f"results={folder}/results",
        ]  # fmt: skip
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env=cluster.env | {"COLUMNS": "200"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
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
                return (
                    seconds,
                    f"{said[0].partition(';')[0]}; {queued} tasks in the queue, {line.split('as ')[1].split(';')[0].count(',') + 1} arrays",
                )
        raise SystemExit("\n".join(said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--values", type=int, default=200)
    given = parser.parse_args()
    if why := missing():
        raise SystemExit(why)
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            f"brackets, jobs={given.jobs}": in_brackets(given.jobs),
            "names": by_names(Path(folder)),
            f"values, seed=range(0,{given.values})": ["method=[power]", f"seed=range(0,{given.values})"],
        }
        for name, overrides in cases.items():
            with Cluster(1, max_array=1001) as cluster:  # Slurm's own default
                seconds, said = submitted(cluster, *overrides)
            bar = f", bar {BAR:.0f} s" if not name.startswith("values") else f", {seconds / given.values:.3f} s each"
            print(f"{name}: {seconds:.1f} s{bar} ({said})", flush=True)


if __name__ == "__main__":
    main()
