"""Shared work: 6 methods x 4 budgets x RULER on `micro-lm`, in one job, in one with `share=false` ("unshared"), one process per cell.

How it is measured: the three ways run one after another with the same examples, each into an empty results folder, and each is
timed from the start of its (first) process to the end of its (last) one, wall clock. One process per cell is `heed run method=[X]
baseline=false` for each of the 24 cells: it loads libraries and model 24 times, prepares the data 24 times (every cell has a folder
of its own, as harnesses without a shared cache do), and reads every prompt once per method. Speed is not measured inside the runs
(`efficiency=off`). Afterwards the samples of all three are compared: they must be equal, but for the note that says what was shared.

    python benchmarks/sharing.py [--samples 10] [--lengths 512 1024] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATIOS = (0.5, 0.6, 0.7, 0.8)
BUDGETS = {
    "quest": ("budget", (64, 128, 192, 256)),
    "snapkv": ("capacity", (64, 128, 192, 256)),
    "h2o": ("heavy", (0.05, 0.1, 0.2, 0.3)),
    "streaming_kv": ("recent", (64, 128, 192, 256)),
    "knorm": ("compression_ratio", RATIOS),
    "tova": ("compression_ratio", RATIOS),
}
PRESSES = {"knorm": "KnormPress", "tova": "TOVAPress"}  # of kvpress


def cells() -> list[tuple[str, str, list[str]]]:
    """(method, label, overrides under that label) of the 24 cells: the first of a method has its name, others are variants."""
    found, known = [], set()
    for name, (key, values) in BUDGETS.items():
        base = "kvpress" if name in PRESSES else name
        for i, value in enumerate(values):
            label = base if base not in known else f"{name}_{i}"
            made = [f"+method.{label}=${{method.{base}}}"] if base in known else []
            made += [f"method.{label}.press={PRESSES[name]}"] if name in PRESSES else []
            found.append((base, label, [*made, f"method.{label}.{key}={value}"]))
            known.add(base)
    return found


def together() -> list[str]:
    """Overrides for all cells in one job."""
    chosen = dict.fromkeys(base for base, _, _ in cells())
    return [f"method=[{','.join(chosen)}]", *(text for _, _, own in cells() for text in own)]


def alone() -> list[list[str]]:
    """Overrides for each cell by itself, under the method's own name."""
    own = [(base, label, [t for t in texts if not t.startswith("+")]) for base, label, texts in cells()]
    return [
        [f"method=[{base}]", *(t.replace(f"method.{label}.", f"method.{base}.") for t in texts)]
        for base, label, texts in own
    ]


def heed(*overrides: str, threads: int) -> None:
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("heed")), "run", "tracking=disabled", "efficiency=off", *overrides],
        env=env, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"heed run failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def samples(root: Path) -> dict[str, list[dict]]:
    """The sample rows of every cell, without the note of what was shared."""
    found = {}
    for folder in sorted(root.glob("**/runs/*")):
        rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        for row in rows:
            row.pop("shared", None)
        found[folder.name] = rows
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10, help="per RULER task and length")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--tasks", nargs="+", default=["niah_single_2", "niah_multikey_1", "vt"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    task = [
        "model=micro-lm", "task=[ruler]", f"task.ruler.samples={args.samples}", f"task.ruler.tasks=[{','.join(args.tasks)}]",
        f"task.ruler.lengths=[{','.join(map(str, args.lengths))}]", "task.ruler.max_new_tokens=32",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        root, seconds = Path(folder), {}
        for name, share in (("shared", "true"), ("unshared", "false")):
            start = time.perf_counter()
            heed(*task, *together(), f"share={share}", "baseline=false", f"results={root / name}", threads=args.threads)
            seconds[name] = time.perf_counter() - start
            print(f"{name}: {seconds[name]:.1f} s", flush=True)
        start = time.perf_counter()
        for i, overrides in enumerate(alone()):
            heed(*task, *overrides, "baseline=false", f"results={root / 'cells' / str(i)}", threads=args.threads)
        seconds["process per cell"] = time.perf_counter() - start
        print(f"process per cell: {seconds['process per cell']:.1f} s")
        found = [samples(root / name) for name in ("shared", "unshared", "cells")]
        assert len(found[0]) == 24 and found[0] == found[1] == found[2], "the three ways do not give the same samples"
        n = sum(map(len, found[0].values()))
    print(f"24 cells, {n} samples, {args.threads} thread(s); all three gave the same samples")
    for name in ("process per cell", "unshared"):
        print(f"{name} / shared: {seconds[name] / seconds['shared']:.2f}x")


if __name__ == "__main__":
    main()
