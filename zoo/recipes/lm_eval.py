"""Held-out accuracy of a zoo language model: ``python -m zoo.recipes.lm_eval DIR``.

Whole answers only: an example counts when greedy generation with a key-value cache returns every token of the answer
and then the end token. Examples come from a generator seed that training never sees. Each share is printed with its
95 % Wilson interval. ``--window W`` repeats the measurement with every layer limited to the last W tokens.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from zoo.recipes import lm_data
from zoo.recipes.lm_rows import Encoder


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927), as fractions; ``n`` = 0 gives the whole range."""
    if n == 0:
        return 0.0, 1.0
    share, scale = right / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    margin = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - margin), min(1.0, middle + margin)


def prompts_and_answers(task: str, length: int, count: int, enc: Encoder) -> list[tuple[list[int], list[int]]]:
    """Token ids of prompt and of answer with its end token; examples that do not fit ``length`` are left out."""
    found = []
    for parts in lm_data.held_out(task, length, count, enc):
        ids = enc.row(parts).ids
        cut = len(ids) - enc.count(parts[-1].text) - 1
        if len(ids) <= length:
            found.append((ids[:cut], ids[cut:]))
    return found


@torch.no_grad()
def greedy(model: Any, prompts: list[list[int]], pad: int, new: int) -> Tensor:
    """Greedy continuation of left-padded prompts: [B, new]."""
    size = max(map(len, prompts))
    ids = torch.tensor([[pad] * (size - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (size - len(p)) + [1] * len(p) for p in prompts])
    out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=pad)
    return torch.nn.functional.pad(out[:, size:], (0, new - (out.shape[1] - size)), value=pad)


def accuracy(model: Any, enc: Encoder, task: str, length: int, count: int, rows: int = 25) -> tuple[int, int]:
    """Right answers and examples asked."""
    examples, right = prompts_and_answers(task, length, count, enc), 0
    for start in range(0, len(examples), rows):
        prompts, answers = zip(*examples[start : start + rows], strict=True)
        told = greedy(model, list(prompts), enc.pad, max(map(len, answers)))
        right += sum(told[i, : len(a)].tolist() == a for i, a in enumerate(answers))
    return right, len(examples)


@torch.no_grad()
def windowed(model: Any, enc: Encoder, task: str, length: int, count: int, window: int) -> tuple[int, int]:
    """The same, teacher-forced, with a mask: in every layer a query sees only the last ``window`` tokens."""
    examples, right = prompts_and_answers(task, length, count, enc), 0
    for prompt, answer in examples:
        ids = torch.tensor([prompt + answer])
        at = torch.arange(ids.shape[1])
        far = (at[None] > at[:, None]) | (at[:, None] - at[None] >= window)
        mask = torch.zeros(far.shape).masked_fill(far, torch.finfo(torch.float32).min)[None, None]
        told = model(input_ids=ids, attention_mask=mask).logits[0, -len(answer) - 1 : -1].argmax(-1)
        right += told.tolist() == answer
    return right, len(examples)


def cell(right: int, n: int) -> str:
    """``98.5 (95.7-99.5)``, or a dash where no example fits."""
    if n == 0:
        return "-"
    low, high = wilson(right, n)
    return f"{100 * right / n:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--tasks", nargs="+", default=list(lm_data.HELD_OUT))
    parser.add_argument("--window", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the counts here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    enc = Encoder(AutoTokenizer.from_pretrained(args.folder))
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32).eval()
    counts: dict[str, dict[int, tuple[int, int]]] = {}
    print("| task |" + "".join(f" {n} tokens |" for n in args.lengths) + "\n|" + "---|" * (len(args.lengths) + 1))
    for task in args.tasks:
        for length in args.lengths:
            if args.window:
                found = windowed(model, enc, task, length, args.n, args.window)
            else:
                found = accuracy(model, enc, task, length, args.n)
            counts.setdefault(task, {})[length] = found
        print(f"| {task} |" + "".join(f" {cell(*counts[task][n])} |" for n in args.lengths), flush=True)
    if args.json:
        args.json.write_text(json.dumps(counts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
