"""What sharing saves on POPE: all three question sets on `micro-vlm`, shared against one encode + one full prefill per question.

How it is measured: one process, one thread unless told otherwise, the same scenes and questions, greedy, dense, batches of equal
padded size on both sides; each side once to warm up, then alternating, R times; the figure is the ratio of the median wall times of
generation (loading the model and reading the pictures are outside, encoding them is inside).

* shared: equal (picture, question) pairs are answered once, every picture is encoded once, and its prefill is shared by its questions.
* apart: every question of every set is a row of its own, with its own encode and its own full prefill.
* between: equal pairs once, but each with its own encode and prefill, so that the two effects can be told apart.

The answers of all three are compared; the script fails if one differs.

    python benchmarks/pope_sharing.py [--scenes 60] [--repeats 3] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch

from harness.asking.batches import plan_batches, plan_groups
from harness.asking.generate import draft_of
from harness.asking.generation import generate
from harness.config.compose import compose
from harness.models.inputs import Sample, memory, sample_of
from harness.models.view import View
from harness.plan.cells import cells

BUDGET = 8192  # padded tokens per batch, the default of a run


def answers(view: View, samples: list[Sample], new: int, share: bool) -> list[str]:
    """The text of every sample, in order."""
    lengths, limits = [len(s) for s in samples], [new] * len(samples)
    if share:
        plan = plan_groups([s.draft.image_key for s in samples], lengths, limits, BUDGET)
    else:
        plan = plan_batches(lengths, limits, BUDGET, "any")
    found = [""] * len(samples)
    for batch in plan:
        part = generate(view, [samples[i] for i in batch], [new] * len(batch), share=share)
        for i, answer in zip(batch, part, strict=True):
            found[i] = answer.text
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="micro-vlm")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    (cell,) = cells(
        compose(
            [
                f"model={args.model}",
                "method=dense",
                "task=pope",
                "task.pope.source=scenes",
                f"task.pope.scenes={args.scenes}",
            ]
        )
    )
    view, task = cell.spec.load(), cell.task
    examples = list(task.examples(view))
    new = examples[0].question.max_new_tokens
    once = [sample_of(view, draft_of(task, e)) for e in examples]
    apart_once = [replace(s, draft=replace(s.draft, image_key="")) for s in once]
    sets = [i for i, e in enumerate(examples) for _ in e.meta["splits"]]
    ways = {
        "shared": lambda: answers(view, once, new, True),
        "between": lambda: answers(view, apart_once, new, False),
        "apart": lambda: answers(view, [apart_once[i] for i in sets], new, False),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(args.repeats + 1):
        said = {}
        for name, way in ways.items():
            memory(view).clear()
            start = time.perf_counter()
            said[name] = way()
            if repeat:  # the first round warms up
                times[name].append(time.perf_counter() - start)
        assert said["shared"] == said["between"], "sharing changed an answer"
        assert [said["shared"][i] for i in sets] == said["apart"], "sharing changed an answer"
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"{args.scenes} scenes, {len(sets)} questions in three sets, {len(examples)} distinct; {args.threads} thread(s)"
    )
    for name, seconds in medians.items():
        print(f"{name:8} {seconds:7.2f} s   {seconds / medians['shared']:5.2f} x shared")
    print("answers are the same; the bar is 3.0 for apart")


if __name__ == "__main__":
    main()
