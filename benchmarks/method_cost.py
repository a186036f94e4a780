"""What each hallucination method costs: time to first token and per token against dense, next to its capabilities.

How it is measured: `harness/efficiency/measure.py` (its docstring is the method), level `full`, on one caption request of `micro-vlm`,
dense before and after each method, so that slow drifts of the machine cancel; the figure is the ratio of the medians, with the range
that the 20/80 % quantiles of both sides allow. Encoding the picture is part of the first token; what `transform` and `begin` do, too. An
untrained position scheme costs what the trained one would. Calibration (iri) happens before and is not counted.

    python benchmarks/method_cost.py [--model micro-vlm] [--threads 1] [--methods vcd vhr]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from harness.asking.generate import draft_of
from harness.asking.transform import transformed
from harness.attention.attach import attach
from harness.config.compose import BASELINE, compose
from harness.efficiency.measure import measure
from harness.errors import UserError
from harness.models.inputs import Sample, sample_of
from harness.models.view import View
from harness.plan.cells import Cell, cells
from harness.running.lessons import Lessons
from harness.running.settings import Progress

METHODS = (
    "vcd", "icd", "vdd", "m3id", "dola", "pai", "vaf", "paint", "var", "vhr", "vista", "iri", "carve", "cca", "opera",
)  # fmt: skip


def timed(view: View, cell: Cell, sample: Sample, root: Path) -> dict[str, Any]:
    """The measurement of one method."""
    method = cell.method
    learned = Lessons(root, Progress()).tensors(cell)
    prepare = (lambda s: transformed(view, method, s)) if method.rewrites_prompt else None
    with attach(view, method, artifact=learned) as attached:
        return measure(view, sample, "full", attached, prepare=prepare)


def ratio(after: dict[str, float], before: list[dict[str, float]]) -> str:
    """Median over median, and the range of the quantiles."""
    base = sum(b["median"] for b in before) / len(before)
    low, high = after["q20"] / max(b["q80"] for b in before), after["q80"] / min(b["q20"] for b in before)
    return f"{after['median'] / base:6.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="micro-vlm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    methods = f"method=[{','.join([BASELINE, *args.methods])}]"
    plan = cells(
        compose([f"model={args.model}", methods, "task=chair", "task.chair.scenes=4", "task.chair.n_images=null"])
    )
    view, task = plan[0].spec.load(), plan[0].task
    sample = max((sample_of(view, draft_of(task, e)) for e in task.examples(view)), key=len)
    dense = next(c for c in plan if c.method_label == BASELINE)
    root = Path(tempfile.mkdtemp())
    print(
        f"{args.model}, {len(sample)} prompt tokens, {args.threads} thread(s); ratios to dense, (range of the 20/80 % quantiles)"
    )
    print(f"{'method':8} {'first token':>20} {'per token':>20}  edits, and what it needs")
    for cell in plan:
        if cell is dense:
            continue
        before = timed(view, dense, sample, root)
        try:
            during = timed(view, cell, sample, root)
        except UserError as error:
            print(f"{cell.method_label:8} refused: {error}")
            continue
        after = timed(view, dense, sample, root)
        parts = [ratio(during[key], [before[key], after[key]]) for key in ("ttft_ms", "decode_ms_per_token")]
        print(f"{cell.method_label:8} {parts[0]:>20} {parts[1]:>20}  {facts(cell)}")


def facts(cell: Cell) -> str:
    """The row of the capability matrix, from the method's own facts."""
    method = cell.method
    hooks = [hook.name for hook in method.hooks]
    more = [n for n in ("second_stream", "trained") if n in method.needs]
    more += ["calibrated"] if method.lesson() is not None else []
    more += [f"batches: {method.batching}"] if method.batching != "any" else []
    more += ["shares prefixes"] if method.prefix_safe else []
    return ", ".join(hooks) + (f" ({', '.join(more)})" if more else "")


if __name__ == "__main__":
    main()
