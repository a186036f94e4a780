"""Harness overhead: dense `passkey` on `micro-lm` through `heed run` against a bare `transformers` generate loop.

How it is measured: both ways answer the same prompts in the same batches (those that the run loop plans), in one process, after one
warm-up pass of each, alternating, R times; the figure is the ratio of the median wall times. The harness side is everything `heed
run` does after the model is loaded: preparing the examples, the proof that the method engaged, attaching, generating, scoring, appending
flushed records, statistics (`efficiency=off`: measuring speed is extra work that the bare loop does not do). The bare side tokenises the
prompts, pads them left, calls `model.generate` and decodes.

    python benchmarks/overhead.py [--repeats 5] [--threads 1]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from harness.asking.batches import plan_batches
from harness.config.compose import compose
from harness.contracts.example import Example
from harness.plan.cells import cells
from harness.running.run import RunSettings, execute, task_data


def bare(view, examples: list[Example], budget: int) -> list[str]:
    """What a user would write without heed: the same batches, left padding, greedy generate, decode."""
    tokenizer = view.tokenizer
    prompts = [tokenizer(e.question.prompt + e.question.answer_prefix)["input_ids"] for e in examples]
    answers = [""] * len(examples)
    for batch in plan_batches([len(p) for p in prompts], [e.question.max_new_tokens for e in examples], budget, "any"):
        width = max(len(prompts[i]) for i in batch)
        pad = tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(prompts[i])) + prompts[i] for i in batch])
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in batch])
        new = max(examples[i].question.max_new_tokens for i in batch)
        with torch.inference_mode():
            out = view.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=new, do_sample=False)
        for i, row in zip(batch, out, strict=True):
            answers[i] = tokenizer.decode(row[width:], skip_special_tokens=True)
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--trials", type=int, nargs="+", default=[2, 10], help="prompts per length and depth; 2 is preset ci"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.repeats} repeats, {args.threads} threads, medians; the bar is a ratio of 1.15")
    for trials in args.trials:
        report(trials, args.repeats)


def report(trials: int, repeats: int) -> None:
    """One line: wall time of both ways and their ratio."""
    root = Path(tempfile.mkdtemp())
    (cell,) = cells(compose(["method=dense", "task=passkey", f"task.passkey.trials={trials}"]))
    view = cell.spec.load()
    loaded = replace(cell, spec=_Loaded(view))
    settings = RunSettings(root, efficiency="off")
    examples, _ = task_data(loaded, view, settings)
    times: dict[str, list[float]] = {"heed": [], "bare": []}
    for repeat in range(repeats + 1):
        shutil.rmtree(root / "runs", ignore_errors=True)
        start = time.perf_counter()
        (outcome,) = execute([loaded], settings)
        middle = time.perf_counter()
        bare(view, examples, settings.batch_tokens)
        end = time.perf_counter()
        assert outcome.status == "done", outcome.reason
        if repeat:  # the first round warms up
            times["heed"].append(middle - start)
            times["bare"].append(end - middle)
    heed, plain = (statistics.median(times[k]) for k in ("heed", "bare"))
    print(f"{len(examples):4d} prompts: heed run {heed:.2f} s   bare generate {plain:.2f} s   ratio {heed / plain:.3f}")
    shutil.rmtree(root)


class _Loaded:
    """A model spec whose model is in memory already."""

    def __init__(self, view) -> None:
        self._view = view

    def load(self):
        return self._view


if __name__ == "__main__":
    main()
