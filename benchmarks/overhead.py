"""Harness overhead: dense `passkey` on `micro-lm` through `heed run` against a bare `transformers` generate loop.

How it is measured: both ways answer the same prompts in the same batches (those that the run loop plans), in one process, after one
warm-up pass of each, in turn and with the order reversed every time, R times. What else runs on the machine only ever adds, so the
figure is the ratio of the shortest times; the median of the ratios of neighbours stands beside it, and where the two differ much
the machine was not quiet. The harness side is everything `heed
run` does after the model is loaded: preparing the examples, the proof that the method engaged, attaching, generating, scoring, appending
flushed records, statistics (`efficiency=off`: measuring speed is extra work that the bare loop does not do). The bare side tokenises the
prompts, pads them left, calls `model.generate` and decodes.

    python benchmarks/overhead.py [--repeats 9] [--threads 1]
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
from harness.running.examples import task_data
from harness.running.run import RunSettings, execute


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
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--trials", type=int, nargs="+", default=[2, 10], help="prompts per length and depth; 2 is preset ci"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.repeats} repeats, {args.threads} threads; the bars are ratios of 1.10 at 20 prompts and 1.05 at 100")
    for trials in args.trials:
        report(trials, args.repeats)


def report(trials: int, repeats: int) -> None:
    """One line: wall time of both ways and their ratio."""
    root = Path(tempfile.mkdtemp())
    (cell,) = cells(compose(["method=dense", "task=passkey", f"task.passkey.trials={trials}"]))
    view = cell.spec.load()
    loaded = replace(cell, spec=_Loaded(cell.spec, view))
    settings = RunSettings(root, efficiency="off")
    examples = task_data(loaded, view, settings).examples
    ways = {"heed": lambda: execute([loaded], settings), "bare": lambda: bare(view, examples, settings.batch_tokens)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        shutil.rmtree(root / "runs", ignore_errors=True)
        for name in ways if repeat % 2 else reversed(ways):
            start = time.perf_counter()
            found = ways[name]()
            taken = time.perf_counter() - start
            assert name == "bare" or found[0].status == "done", found[0].reason
            if repeat:  # the first round warms up
                times[name].append(taken)
    heed, plain = (min(times[k]) for k in ("heed", "bare"))
    middle = statistics.median(a / b for a, b in zip(times["heed"], times["bare"], strict=True))
    print(
        f"{len(examples):4d} prompts: heed run {heed:.3f} s, bare generate {plain:.3f} s, ratio {heed / plain:.3f} "
        f"(median of neighbours {middle:.3f})"
    )
    shutil.rmtree(root)


class _Loaded:
    """A model spec whose model is in memory already."""

    def __init__(self, spec, view) -> None:
        self._view, self.identity = view, spec.identity

    def load(self):
        return self._view


if __name__ == "__main__":
    main()
