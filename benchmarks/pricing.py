"""`heed run --dry-run` against reality: predicted over measured time and memory of a handful of plans on the zoo's models.

How it is measured: each plan is priced for an empty results folder, then run in a process of its own (wall time from its start to its
end, its processor time, largest resident memory), then priced again with another seed, so that nothing of it is finished but its
speeds are known, and run again. `calibrated` rests on the numpy measurement alone and is divided by processor time (one thread: what
an idle machine would take, which is what is predicted) and by wall time; `corrected` rests on the first run as well and is divided by
wall time. Prices are made in this process, with as many threads as the runs have.

    python benchmarks/pricing.py [--threads 1] [--plans passkey ruler ...]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

COMPRESSORS = [
    "method=[quest,snapkv,h2o,streaming_kv]", "+method.snapkv_128=${method.snapkv}", "method.snapkv_128.capacity=128",
    "+method.quest_128=${method.quest}", "method.quest_128.budget=128",
]  # fmt: skip
RULER = ["task=[ruler]", "task.ruler.tasks=[niah_single_2,vt]", "task.ruler.samples=4", "task.ruler.max_new_tokens=32"]
PLANS = {
    "passkey": ["method=[power,quest,snapkv]", "task=[passkey]"],
    "recall, long": ["task=[recall]", "task.recall.lengths=[1024,2048]", "task.recall.samples=4", "efficiency=off"],
    "ruler, patterns": ["method=[power,sliding,streaming]", *RULER],
    "ruler, shared": [*COMPRESSORS, *RULER, "efficiency=off"],
    "ruler, share=false": [*COMPRESSORS, *RULER, "efficiency=off", "share=false"],
    "chair": ["model=micro-vlm", "method=[vcd,vhr]", "task=[chair]"],
    "pope": ["model=micro-vlm", "method=[vcd,vhr]", "task=[pope]"],
}


def priced(overrides: list[str]):
    """The dry run's total."""
    from harness.commands.dry_run import settings_of
    from harness.config.compose import compose
    from harness.plan.cells import cells
    from harness.pricing.price import Pricing
    from harness.pricing.total import total

    cfg = compose(overrides)
    plan = cells(cfg)
    return total(Pricing(plan, settings_of(cfg)), plan)


def run(overrides: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and bytes of a process that runs a plan."""
    code = "import resource, sys; from harness.cli import main; c = main(sys.argv[1:]); "
    code += "u = resource.getrusage(resource.RUSAGE_SELF); "
    code += "print('used', u.ru_utime + u.ru_stime, u.ru_maxrss * 1024); sys.exit(c)"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "tracking=disabled", *overrides], capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"heed run failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    used, peak = done.stdout.rsplit("used", 1)[1].split()
    return seconds, float(used), float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(PLANS))
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)  # read when numpy loads
    print(f"{args.threads} thread(s), {os.getloadavg()[0]:.1f} running processes before; predicted / measured")
    heads = ("wall", "processor", "calibrated", "(wall)", "corrected", "memory")
    print(f"{'plan':20s}" + "".join(f"{h:>12s}" for h in heads) + "  sharing saves (predicted)")
    ratios: dict[str, list[float]] = {"calibrated": [], "calibrated (wall)": [], "corrected": []}
    for name in args.plans:
        with tempfile.TemporaryDirectory() as folder:
            found = []
            for seed in (0, 1):
                overrides = [*PLANS[name], f"results={folder}", f"seed={seed}"]
                found.append((priced(overrides), *run(overrides)))
        (first, wall, used, peak), (second, again, _, _) = found
        memory = first.heaviest[0].total / peak if first.heaviest else float("nan")
        row = (first.seconds / used, first.seconds / wall, second.seconds / again)
        for kind, value in zip(ratios, row, strict=True):
            ratios[kind].append(value)
        print(
            f"{name:20s}{wall:10.1f} s{used:10.1f} s" + "".join(f"{x:12.2f}" for x in (*row, memory))
            + f"  {first.saving.seconds:.1f} s of {first.seconds_unshared:.1f} s",
            flush=True,
        )  # fmt: skip
    for kind, values in ratios.items():
        print(f"{kind}: median {statistics.median(values):.2f}, range {min(values):.2f} to {max(values):.2f}")
    assert "torch" not in sys.modules


if __name__ == "__main__":
    main()
