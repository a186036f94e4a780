"""The recipe of ``micro-lm``: ``python -m zoo.recipes.lm_train --seed S --out DIR``.

Everything that decides the result is data in this file: the model, the stages, the mixture. A stage fixes the length,
the tokens per step and the learning rate; the clock decides nothing, so a run can be stopped and resumed. ``--out``
receives a folder that ``from_pretrained`` accepts, with the log of the run beside the weights. An interrupted run
leaves ``state.pt`` there and goes on from it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig, LlamaForCausalLM

from harness.training import loop
from zoo.recipes import lm_data, lm_start, lm_tokenizer


@dataclass(frozen=True)
class Stage:
    """``lengths`` are drawn with equal weight per step; ``lr`` and ``repeats`` go linearly from first to last.

    ``repeats`` is the share of steps that see repeated random tokens instead of the ``mixture`` (relative weights).
    """

    steps: int
    lengths: tuple[int, ...]
    tokens: int
    lr: tuple[float, float]
    repeats: tuple[float, float]
    mixture: dict[str, float]
    rest: float = 1.0  # weight of the later chunks of an answer; the first one weighs 3


MIXTURE = {
    "passkey": 1, "niah1": 1, "niah4": 2, "haystack": 1, "short": 1, "many": 0.7, "tracking": 2.5, "dialogue": 1.5,
    "plain": 0.3,
}  # fmt: skip
LONG = MIXTURE | {"haystack": 1.5, "short": 0.4, "many": 0.5}
STAGES = (
    Stage(250, (128, 256), 4096, (1e-3, 1e-3), (0.1, 0.03), MIXTURE),
    Stage(250, (256, 512), 4096, (1e-3, 7.857143e-4), (0.03, 0.008571429), MIXTURE),
    Stage(300, (256, 512, 512, 1024, 1024), 4096, (7.857143e-4, 5.304762e-4), (0.0, 0.0), LONG, rest=2.5),
    Stage(400, (256, 512, 512, 1024, 1024), 4096, (5.304762e-4, 2e-5), (0.0, 0.0), LONG, rest=2.5),
)
WARMUP = 40


def stage_at(step: int) -> tuple[Stage, float]:
    """The stage of a step and how far it is through it, in [0, 1)."""
    for stage in STAGES:
        if step < stage.steps:
            return stage, step / stage.steps
        step -= stage.steps
    raise IndexError("step beyond the last stage")


def total_steps() -> int:
    return sum(stage.steps for stage in STAGES)


def lr_at(step: int) -> float:
    stage, done = stage_at(step)
    return loop.warmup_then(step, stage.lr[0] + (stage.lr[1] - stage.lr[0]) * done, WARMUP)


def rows_at(step: int, seed: int, enc: lm_data.Encoder, vocab: int) -> list[lm_data.Row]:
    stage, done = stage_at(step)
    rng = random.Random(f"length/{seed}/{step}")
    length = rng.choice(stage.lengths)
    enc.rest_weight = stage.rest
    repeats = stage.repeats[0] + (stage.repeats[1] - stage.repeats[0]) * done
    return lm_data.batch(seed, step, enc, length, max(1, stage.tokens // length), stage.mixture, repeats, vocab)


def data_digest(seed: int, steps: tuple[int, ...] = (0, 300, 700, 1199)) -> str:
    """First 16 hex digits of the sha256 over the training rows of some steps: tells whether the data are still the same."""
    tokenizer = lm_tokenizer.build()
    rows = [rows_at(step, seed, lm_data.Encoder(tokenizer), len(tokenizer)) for step in steps]
    return hashlib.sha256(repr([[(row.ids, row.weights) for row in batch] for batch in rows]).encode()).hexdigest()[:16]


def collate(rows: list[lm_data.Row], pad: int) -> tuple[Tensor, Tensor]:
    """Right-padded ids [B, T] and weights [B, T]; attention is causal, so padding behind the text needs no mask."""
    size = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [pad] * (size - len(row.ids)) for row in rows])
    weights = torch.tensor([row.weights + [0.0] * (size - len(row.weights)) for row in rows])
    return ids, weights


def weighted_loss(
    model: LlamaForCausalLM, ids: Tensor, weights: Tensor, first: float
) -> tuple[Tensor, dict[str, float]]:
    """Weighted mean cross-entropy; logits are computed only where a weight is not zero."""
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    target, weight = ids[:, 1:], weights[:, 1:]
    at = weight > 0
    logits = model.lm_head(hidden[at])
    losses = F.cross_entropy(logits, target[at], reduction="none")
    right = (logits.detach().argmax(-1) == target[at]).float()
    head = weight[at] == first
    numbers = {"token": float(right.mean())}
    if head.any():  # only the first chunk of an answer says whether the right needle was found
        numbers["first"] = float(right[head].mean())
    return (losses * weight[at]).sum() / weight[at].sum(), numbers


@torch.no_grad()
def teacher_forced(model: LlamaForCausalLM, enc: lm_data.Encoder, task: str, length: int, count: int) -> float:
    """Share of held-out examples whose whole last answer, end token included, is the arg-max given the prompt."""
    right = 0
    for parts in lm_data.held_out(task, length, count, enc):
        row = enc.row(parts)
        ids = torch.tensor([row.ids])
        size = enc.count(parts[-1].text) + 1
        guess = model.lm_head(model.model(input_ids=ids).last_hidden_state[:, -size - 1 : -1]).argmax(-1)
        right += int(torch.equal(guess, ids[:, -size:]))
    return right / count


def validation_loss(model: LlamaForCausalLM, enc: lm_data.Encoder) -> float:
    """Mean cross-entropy, in nats per token, on the part of the essays that was never learned as text."""
    text = " ".join(lm_data.essay_sentences()[lm_data.learned_sentences() :])
    ids = torch.tensor([[enc.bos, *enc.encode(text)[:511]]])
    return float(model(input_ids=ids, labels=ids).loss)


REPORT = ("passkey essay", "niah 1 key essay", "niah 4 keys essay", "niah needle haystack", "dialogue 6 facts",
          "tracking 1 hop", "tracking 2 hops", "tracking 4 hops")  # fmt: skip


def report(model: LlamaForCausalLM, enc: lm_data.Encoder, lengths: tuple[int, ...], count: int) -> dict[str, float]:
    found = {f"{task} {n}": teacher_forced(model, enc, task, n, count) for n in lengths for task in REPORT}
    return {**found, "validation": validation_loss(model, enc)}


def ship(model: LlamaForCausalLM, out: Path) -> None:
    """Write weights, configuration and tokenizer so that ``from_pretrained`` needs nothing else."""
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, pad_token_id=2, do_sample=False)
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    lm_tokenizer.save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="1 is the shipped checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="run again with the same folder to resume")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report-every", type=int, default=250)
    args = parser.parse_args()
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")  # every batch has its own shape: saves gigabytes
    torch.set_num_threads(args.threads)
    tokenizer = lm_tokenizer.build()
    enc = lm_data.Encoder(tokenizer)
    vocab = -(-len(tokenizer) // 64) * 64
    model = lm_start.fresh(lm_start.config(vocab), args.seed)

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        ids, weights = collate(rows_at(step, args.seed, enc, len(tokenizer)), enc.pad)
        with torch.autocast("cpu", torch.bfloat16):  # weights stay fp32; on a CPU this is 2-4 times faster
            loss, numbers = weighted_loss(model, ids, weights, enc.first_weight)
        return loss, {**numbers, "length": float(ids.shape[1])}

    def report_at(step: int) -> dict[str, float]:
        lengths = tuple(sorted({256, max(stage_at(step - 1)[0].lengths)}))
        return report(model, enc, lengths, 24)

    settings = loop.Settings(total_steps(), save_every=100)
    loop.fit(model, settings, loss_at, lr_at, args.out, report_at, args.report_every)
    ship(model, args.out)
    (args.out / "log.jsonl").replace(args.out / "training_log.jsonl")
    (args.out / "state.pt").unlink()


if __name__ == "__main__":
    main()
