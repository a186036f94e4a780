"""What counting costs: a method whose only hook does nothing, against dense, per decode step of micro-lm.

How it is measured: requests of 200 prompt tokens and 64 decode steps, dense and under the idle hook in turn, R times after a
warm-up, on one thread, in processor time of the process (other load on the machine does not count as wall time would); the
figure is the median of the ratios of neighbours. What is not the model's own work here is: a call of our attention function in
place of the library's, the record that is handed to the hook, and one line in the tally for each layer.

    python benchmarks/bookkeeping.py [--repeats 25] [--batch 1 8]
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from harness.attention.attach import attach
from harness.config.compose import compose
from harness.contracts.call import Call
from harness.contracts.method import Method
from harness.efficiency import measure
from harness.models.inputs import Sample
from harness.plan.cells import cells
from methods.dense import Dense

STEPS = 64


@dataclass(frozen=True, kw_only=True)
class Nothing(Method):
    """Installs the attention function, and lets the model's own run."""

    name = "nothing"

    def pattern(self, ctx: Call, q: Any, k: Any) -> None:
        return None


def step(view: Any, method: Method, batch: int) -> float:
    """Milliseconds of processor time per decode step of one request."""
    prompt = Sample(tuple(10 + 7 * i % 200 for i in range(200)))
    with attach(view, method) as attached, torch.no_grad():
        return measure.timed_request(view, [prompt] * batch, STEPS, attached)[1] / STEPS * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    args = parser.parse_args()
    torch.set_num_threads(1)
    measure.now = lambda devices: time.process_time()
    (cell,) = cells(compose(["method=dense", "task=passkey"]))
    view = cell.spec.load()
    for batch in args.batch:
        step(view, Dense(), batch), step(view, Nothing(), batch)
        rounds = [(step(view, Dense(), batch), step(view, Nothing(), batch)) for _ in range(args.repeats)]
        dense, idle = (statistics.median(r[i] for r in rounds) for i in (0, 1))
        ratio = statistics.median(b / a for a, b in rounds)
        print(f"batch {batch}: dense {dense:.3f} ms, idle hook {idle:.3f} ms per step, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
