"""The induction task (Olsson et al. 2022, arXiv 2209.11895); see the README."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.contracts.example import Example, Skipped
from harness.contracts.metric import Metric, Score
from harness.contracts.options import Length, Samples
from harness.contracts.question import Predict, Question
from harness.contracts.task import Task, example_rng
from harness.contracts.tokens import Tokens
from harness.errors import UserError
from zoo.material.text import words

SHORTEST = 8  # tokens; below there is hardly anything to predict


@dataclass(frozen=True, kw_only=True)
class Induction(Task):
    """A sequence of random tokens, then the same again. Whoever finds the token before in the first half can copy what came
    behind it there; nothing else helps. `lengths`: tokens of both halves and the tokenizer's start token together.
    """

    title: ClassVar[str] = "random tokens said twice: how much of the second time is predicted, by length"
    paper: ClassVar[str] = "2209.11895"
    licence: ClassVar[str] = "generated; its tokens are those of the essays that ship with the harness"
    asks: ClassVar[type[Question]] = Predict
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("accuracy"),)
    by: ClassVar[tuple[str, ...]] = ("length",)

    lengths: Sequence[Length] = (256, 512, 1024)
    samples: Samples = 25

    def __post_init__(self) -> None:
        lengths = (self.lengths,) if isinstance(self.lengths, int) else tuple(self.lengths)
        object.__setattr__(self, "lengths", lengths)

    def validate(self) -> None:
        lengths = list(self.lengths)
        if not lengths or min(lengths) < SHORTEST or len(set(lengths)) < len(lengths):
            raise UserError(
                f"induction.lengths is {lengths}: give lengths of at least {SHORTEST} tokens, each only once."
            )
        if self.samples < 1:
            raise UserError(f"induction.samples is {self.samples}: give at least 1.")

    def provenance(self) -> Mapping[str, str]:
        return {"essay": words.digest(words.essay())}

    def lengths_needed(self) -> int:
        return max(self.lengths)

    def size(self) -> tuple[int, int]:
        return len(self.lengths) * self.samples, sum(self.lengths) * self.samples

    def examples(self, tokens: Tokens) -> Iterator[Example | Skipped]:
        pool = sorted(set(tokens.encode(words.essay())))  # ordinary tokens: none is special, each stands in a text
        for length in self.lengths:
            for sample in range(self.samples):
                yield self._example(pool, tuple(tokens.start_ids), length, sample)

    def score(self, example: Example, answer: Sequence[Any] | None) -> Score:
        """The share of predictions that are the tokens that follow. Flag: `empty`."""
        asked = example.asks(Predict)
        ids, positions = asked.inputs["input_ids"], asked.positions or ()
        if answer is None:
            return Score({"accuracy": 0.0}, None, ("empty",))
        right = sum(found == ids[at + 1] for found, at in zip(answer, positions, strict=True))
        return Score({"accuracy": right / max(1, len(positions))}, right)

    def _example(self, pool: Sequence[int], start: tuple[int, ...], length: int, sample: int) -> Example:
        """The first token of the second half is not asked for: nothing announces that it begins."""
        rng, n = example_rng("induction", self.seed, length, sample), (length - len(start)) // 2
        half = tuple(rng.choices(pool, k=n))
        ids, begin = (*start, *half, *half), len(start) + n
        asked = Predict({"input_ids": ids}, positions=tuple(range(begin, len(ids) - 1)), take="argmax")
        meta = {"length": length, "sample": sample, "n_tokens": len(ids), "n_pool": len(pool)}
        return Example(f"induction-{length}-{sample}", asked, task="induction", meta=meta)
