"""A sixth kind of question, in one file: which of several endings is the likeliest. Question, asker and task; nothing else
of the project knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.asking.likelihood import nll
from harness.attention.usage import of_sample
from harness.contracts.asker import Answer, Asker
from harness.contracts.example import Example
from harness.contracts.inputs import Draft
from harness.contracts.metric import Metric, Score
from harness.contracts.question import Question
from harness.contracts.task import Task, example_rng
from harness.contracts.tokens import Tokens
from harness.models.inputs import Sample

WORDS = ("river", "mill", "corn", "stone", "rain", "bridge", "wheel", "year", "nobody", "old")


@dataclass(frozen=True)
class Endings(Question):
    """The answer is the number of the ending with the highest mean log-likelihood behind the beginning."""

    asker: ClassVar[str] = "tests.asking.sixth.EndingsAsker"
    one_pass: ClassVar[bool] = True
    one_prompt: ClassVar[bool] = False

    beginning: tuple[int, ...] = ()
    endings: tuple[tuple[int, ...], ...] = ()


class EndingsAsker(Asker):
    """Asks `Endings`: each ending is scored behind the beginning."""

    def read(self, view: Any, task: Task, example: Example, share: bool) -> Sample:
        asked = example.asks(Endings)
        return Sample((*asked.beginning, *max(asked.endings, key=len)), Draft(example.id, ""))

    def answer(
        self,
        view: Any,
        questions: Sequence[Endings],
        samples: Sequence[Sample],
        attached: Any,
        decoding: Any,
        share: bool,
    ) -> list[Answer]:
        answers = []
        for question, sample in zip(questions, samples, strict=True):
            means = self._means(view, question, attached)
            counts = attached.counted([0] * len(question.endings)) or []
            read = sum(len(question.beginning) + len(ending) for ending in question.endings)
            best = int(means.argmax())
            answers.append(Answer(best, sample.digest, read, 0, usage=of_sample(counts), longest=len(sample)))
        return answers

    def scored(self, view: Any, question: Endings, sample: Sample) -> Callable[[Any], Tensor]:
        return lambda attached: self._means(view, question, attached)

    def _means(self, view: Any, question: Endings, attached: Any) -> Tensor:
        rows = [(*question.beginning, *ending) for ending in question.endings]
        losses = nll(view, rows, [len(ending) for ending in question.endings], attached)
        return torch.tensor([-sum(loss) / len(loss) for loss in losses])


@dataclass(frozen=True, kw_only=True)
class Repeats(Task):
    """A sentence of random words that breaks off after it began anew; one ending goes on as it did, the others do not."""

    title: ClassVar[str] = "which ending repeats what was said"
    asks: ClassVar[type[Question]] = Endings
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("accuracy"),)

    n: int = 6
    length: int = 24  # words

    def size(self) -> tuple[int, int]:
        return self.n, self.n * 4 * self.length

    def examples(self, tokens: Tokens) -> Iterator[Example]:
        for i in range(self.n):
            rng = example_rng("repeats", self.seed, i)
            said = [rng.choice(WORDS) for _ in range(self.length)]
            half, right = self.length // 2, rng.randrange(2)
            endings = [" " + " ".join(rng.choices(WORDS, k=half)), " " + " ".join(said[half:])]
            ids = [tuple(tokens.encode(text)) for text in (endings if right else endings[::-1])]
            begun = (*tokens.start_ids, *tokens.encode(" ".join([*said, *said[:half]])))
            yield Example(f"r{i}", Endings(begun, tuple(ids)), references=(str(right),), task="repeats")

    def score(self, example: Example, answer: int | None) -> Score:
        right = answer is not None and str(answer) == example.references[0]
        return Score({"accuracy": float(right)}, answer, () if answer is not None else ("empty",))
