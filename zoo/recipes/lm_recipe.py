"""The recipe of `micro-lm`: everything that decides the result is data in this file, the model, the stages, the mixture.

A stage fixes the length, the tokens per step and the learning rate; the clock decides nothing.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from harness.contracts.recipe import Recipe, warmed_up
from zoo.material.text import words
from zoo.recipes import lm_data, lm_start, lm_tokenizer
from zoo.recipes.lm_filler import essay_sentences, learned_sentences
from zoo.recipes.lm_rows import Encoder, Row


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


def stage_at(step: int, stages: Sequence[Stage] = STAGES) -> tuple[Stage, float]:
    """The stage of a step and how far it is through it, in [0, 1)."""
    for stage in stages:
        if step < stage.steps:
            return stage, step / stage.steps
        step -= stage.steps
    raise IndexError("step beyond the last stage")


def total_steps(stages: Sequence[Stage] = STAGES) -> int:
    return sum(stage.steps for stage in stages)


def lr_at(step: int, stages: Sequence[Stage] = STAGES) -> float:
    stage, done = stage_at(step, stages)
    return warmed_up(step, stage.lr[0] + (stage.lr[1] - stage.lr[0]) * done, WARMUP)


def rows_at(step: int, seed: int, enc: Encoder, vocab: int, stages: Sequence[Stage] = STAGES) -> list[Row]:
    stage, done = stage_at(step, stages)
    rng = random.Random(f"length/{seed}/{step}")
    length = rng.choice(stage.lengths)
    enc.rest_weight = stage.rest
    repeats = stage.repeats[0] + (stage.repeats[1] - stage.repeats[0]) * done
    return lm_data.batch(seed, step, enc, length, max(1, stage.tokens // length), stage.mixture, repeats, vocab)


def data_digest(seed: int, steps: tuple[int, ...] = (0, 300, 700, 1199)) -> str:
    """First 16 hex digits of the sha256 over the training rows of some steps: tells whether the data are still the same."""
    tokenizer = lm_tokenizer.build()
    rows = [rows_at(step, seed, Encoder(tokenizer), len(tokenizer)) for step in steps]
    return hashlib.sha256(repr([[(row.ids, row.weights) for row in batch] for batch in rows]).encode()).hexdigest()[:16]


def collate(rows: list[Row], pad: int) -> tuple[Tensor, Tensor]:
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
def teacher_forced(model: LlamaForCausalLM, enc: Encoder, task: str, length: int, count: int) -> float:
    """Share of held-out examples whose whole last answer, end token included, is the arg-max given the prompt."""
    right = 0
    for parts in lm_data.held_out(task, length, count, enc):
        row = enc.row(parts)
        ids = torch.tensor([row.ids])
        size = enc.count(parts[-1].text) + 1
        guess = model.lm_head(model.model(input_ids=ids).last_hidden_state[:, -size - 1 : -1]).argmax(-1)
        right += int(torch.equal(guess, ids[:, -size:]))
    return right / count


def validation_loss(model: LlamaForCausalLM, enc: Encoder) -> float:
    """Mean cross-entropy, in nats per token, on the part of the essays that was never learned as text."""
    text = " ".join(essay_sentences()[learned_sentences() :])
    ids = torch.tensor([[enc.bos, *enc.encode(text)[:511]]])
    return float(model(input_ids=ids, labels=ids).loss)


REPORT = ("passkey essay", "niah 1 key essay", "niah 4 keys essay", "niah needle haystack", "dialogue 6 facts",
          "tracking 1 hop", "tracking 2 hops", "tracking 4 hops")  # fmt: skip


def report(model: LlamaForCausalLM, enc: Encoder, lengths: tuple[int, ...], count: int) -> dict[str, float]:
    found = {f"{task} {n}": teacher_forced(model, enc, task, n, count) for n in lengths for task in REPORT}
    return {**found, "validation": validation_loss(model, enc)}


@dataclass(frozen=True, kw_only=True)
class MicroLM(Recipe):
    """On a CPU it computes in bfloat16 with float32 weights."""

    report_every = 250

    seed: int = 1
    stages: tuple[Stage, ...] = STAGES

    @property
    def label(self) -> str:
        return f"micro-lm, seed {self.seed}"

    @property
    def steps(self) -> int:
        return total_steps(self.stages)

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder(lm_tokenizer.build())

    def network(self) -> LlamaForCausalLM:
        return lm_start.fresh(lm_start.config(-(-len(self.encoder.tokenizer) // 64) * 64), self.seed)

    def rates(self, step: int) -> tuple[float, ...]:
        return (lr_at(step, self.stages),) * 2

    def loss(self, network: nn.Module, step: int) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(network, LlamaForCausalLM)
        rows = rows_at(step, self.seed, self.encoder, len(self.encoder.tokenizer), self.stages)
        ids, weights = collate(rows, self.encoder.pad)
        with torch.autocast("cpu", torch.bfloat16):  # 2 to 4 times faster than float32
            loss, numbers = weighted_loss(network, ids, weights, self.encoder.first_weight)
        return loss, {**numbers, "length": float(ids.shape[1])}

    def report(self, network: nn.Module, done: int) -> dict[str, float]:
        assert isinstance(network, LlamaForCausalLM)
        lengths = tuple(sorted({256, max(stage_at(done - 1, self.stages)[0].lengths)}))
        return report(network, self.encoder, lengths, 24)

    def data(self) -> Mapping[str, Any]:
        return {"words": words.digest()}
