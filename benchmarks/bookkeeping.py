"""What an attached method costs that does nothing: one idle hook against dense, per decode step of micro-lm.

How it is measured: a decode step of 200 prompt tokens and up to 64 new ones is timed by itself, in processor time of the
process, on one thread. Dense and idle requests take turns, R times after a warm-up, and begin in turn; of each place in the
request the median over the rounds stands for it, so that one disturbed step disturbs nothing, and the figure is the ratio of
the sums over places. Dense against itself, measured as a third in the same rounds, says how far the figure can be trusted.
What is not the model's own work here is: a call of our attention function in place of the library's, the record that is handed
to the hook, and one number in the tally for each layer.

    python benchmarks/bookkeeping.py [--repeats 25] [--batch 1 8]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from harness.attention.attach import attach
from harness.config.compose import compose
from harness.contracts.call import Call
from harness.contracts.method import Method
from harness.plan.cells import cells
from methods.dense import Dense

PROMPT, STEPS = 200, 64
BAR = 1.03


@dataclass(frozen=True, kw_only=True)
class Nothing(Method):
    """Installs the attention function, and lets the model's own run."""

    name = "nothing"

    def pattern(self, ctx: Call, q: Any, k: Any) -> None:
        return None


@torch.no_grad()
def steps(view: Any, method: Method, batch: int) -> list[float]:
    """Milliseconds of processor time of each decode step of one request."""
    ids = torch.tensor([[10 + 7 * i % 200 for i in range(PROMPT)]] * batch)
    times, cache = [], DynamicCache(config=view.config)
    with attach(view, method):
        for _ in range(STEPS + 1):
            start = time.process_time()
            out = view.lm(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            times.append(1e3 * (time.process_time() - start))
            ids = out.logits[:, -1:].argmax(-1)
    return times[1:]


def report(view: Any, batch: int, repeats: int) -> None:
    """One line: the ratio, and that of dense to itself."""
    ways = {"dense": Dense(), "idle": Nothing(), "again": Dense()}
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name in ways if repeat % 2 else reversed(ways):
            taken = steps(view, ways[name], batch)
            if repeat:  # the first round warms up
                found[name].append(taken)
    dense, idle, again = (sum(map(min, zip(*rounds, strict=True))) / STEPS for rounds in found.values())
    print(
        f"batch {batch}: dense {dense:.3f} ms, idle hook {idle:.3f} ms per step, ratio {idle / dense:.3f} (bar {BAR}); "
        f"dense to itself {again / dense:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    args = parser.parse_args()
    torch.set_num_threads(1)
    (cell,) = cells(compose(["method=dense", "task=passkey"]))
    view = cell.spec.load()
    for batch in args.batch:
        report(view, batch, args.repeats)


if __name__ == "__main__":
    main()
