"""Questions over documents, each example from its own generator."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tasks.ruler import templates
from tasks.ruler.documents import QaSet, Question
from tasks.ruler.job import Job
from tasks.ruler.robust.sized import Sized
from tasks.ruler.templates import Built


def prepare(job: Job) -> Callable[[int], Sized]:
    """A function from the sample number to the example as a function of its documents. Sample i asks question i; a
    file with fewer questions starts again, with other distractors."""
    data = job.qa_set

    def example(index: int) -> Sized:
        rng = job.rng(index)
        question = data.questions[index % len(data.questions)]
        ranked = _Ranked(data, question, rng)
        order = rng.getrandbits(64)
        costs = [0]

        def build(size: int) -> Built:
            documents = [data.documents[i] for i in ranked.first(size)]
            Random(order).shuffle(documents)
            marks = tuple(data.documents[i] for i in question.core)
            return Built(*templates.qa(documents, question.text), question.answers, marks, cluster=question.cluster)

        def growth(size: int) -> float:
            while len(costs) <= size:
                text = data.documents[ranked.first(len(costs))[-1]]
                costs.append(costs[-1] + job.meter.piece(text) + job.meter.piece(f"\n\nDocument {len(costs)}:\n"))
            return costs[size]

        return Sized(build, growth, low=len(set(question.core)))

    return example


class _Ranked:
    """Documents in the order in which they enter: those with the answer, the rest of the question's own, related
    ones, others; all of them again when the file is exhausted. Document i is the same for every size."""

    def __init__(self, data: QaSet, question: Question, rng: Random) -> None:
        core = list(dict.fromkeys(question.core))
        own = [i for i in dict.fromkeys(question.gold) if i not in core]
        related = [i for i in dict.fromkeys(question.related) if i not in question.gold]
        self._ranked = [*core, *rng.sample(own, len(own)), *rng.sample(related, len(related))]
        self._total, self._rng = len(data.documents), Random(rng.getrandbits(64))
        self._used = set(self._ranked)

    def first(self, n: int) -> list[int]:
        """The first `n` documents."""
        while len(self._ranked) < n and len(self._used) < self._total:
            if (drawn := self._rng.randrange(self._total)) not in self._used:
                self._used.add(drawn)
                self._ranked.append(drawn)
        while len(self._ranked) < n:
            self._ranked.append(self._ranked[len(self._ranked) - self._total])
        return self._ranked[:n]
