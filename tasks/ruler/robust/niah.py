"""Needles in a haystack, each example from its own generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from tasks.ruler import templates
from tasks.ruler.catalog import Niah
from tasks.ruler.haystack import DEPTHS, Essay, insert_at_depths, insert_at_indexes
from tasks.ruler.job import Job, Meter
from tasks.ruler.robust.sized import Sized
from tasks.ruler.templates import Built


@dataclass(frozen=True)
class Needles:
    """What is hidden, in its shuffled order, and what is asked."""

    hidden: tuple[str, ...]
    asked: tuple[str, ...]
    answers: tuple[str, ...]
    marks: tuple[str, ...]


def prepare(job: Job) -> Callable[[int], Sized]:
    """A function from the sample number to the example as a function of its size (words of essay, or lines)."""
    assert isinstance(job.params, Niah)
    params, essay = job.params, job.params.haystack == "essay"
    cost = _word_costs(job.meter, job.sources.essay) if essay else None

    def example(index: int) -> Sized:
        rng = job.rng(index)
        taken: set[str] = set()
        needles = _needles(job, params, rng, taken)
        singular = params.queries * params.values == 1

        def finish(context: str) -> Built:
            prompt, prefix = templates.niah(params.value_type, context, needles.asked, singular)
            return Built(prompt, prefix, needles.answers, needles.marks)

        if essay:
            return _in_essay(
                job.sources.essay, cost or [], needles.hidden, sorted(rng.sample(DEPTHS, len(needles.hidden))), finish
            )
        return _in_lines(job, params, rng, needles.hidden, taken, finish)

    return example


def _needles(job: Job, params: Niah, rng: Random, taken: set[str]) -> Needles:
    """Draw distinct keys and values; `taken` collects them so that no distractor repeats one."""
    keys, values = [], []
    for _ in range(params.hidden_keys):
        keys.append(_fresh(job, params.key_type, rng, taken))
        values.append([_fresh(job, params.value_type, rng, taken) for _ in range(params.values)])
    sentences = [
        [templates.needle(params.value_type, key, v) for v in group] for key, group in zip(keys, values, strict=True)
    ]
    hidden = [sentence for group in sentences for sentence in group]
    rng.shuffle(hidden)
    asked = rng.sample(range(len(keys)), params.queries)
    return Needles(
        tuple(hidden),
        tuple(keys[i] for i in asked),
        tuple(value for i in asked for value in values[i]),
        tuple(sentence for i in asked for sentence in sentences[i]),
    )


def _fresh(job: Job, kind: str, rng: Random, taken: set[str]) -> str:
    while (drawn := job.draw(kind, rng)) in taken:
        pass
    taken.add(drawn)
    return drawn


def _in_essay(
    essay: Essay, cost: list[int], needles: tuple[str, ...], depths: list[int], finish: Callable[[str], Built]
) -> Sized:
    def build(size: int) -> Built:
        return finish(insert_at_depths(essay.first_sentences(size), needles, depths))

    def growth(size: int) -> float:
        full, rest = divmod(size, len(cost) - 1)
        return full * cost[-1] + cost[rest]

    return Sized(build, growth)


def _word_costs(meter: Meter, essay: Essay) -> list[int]:
    """Tokens of the first n words, each counted alone, for n = 0 .. all."""
    return list(accumulate((meter.piece(f" {word}") for word in essay.body), initial=0))


def _in_lines(
    job: Job, params: Niah, rng: Random, needles: tuple[str, ...], taken: set[str], finish: Callable[[str], Built]
) -> Sized:
    place_seed, lines = rng.getrandbits(64), _Lines(job, params, rng, taken)

    def build(size: int) -> Built:
        places = Random(place_seed)
        if size >= len(needles):
            indexes = places.sample(range(size), len(needles))
        else:  # fewer lines than needles: they share places
            indexes = [places.randint(0, size) for _ in needles]
        return finish(insert_at_indexes(lines.first(size), needles, sorted(indexes, reverse=True)))

    return Sized(build, lines.cost)


class _Lines:
    """The haystack's lines, drawn as far as they are needed: line i is the same for every size."""

    def __init__(self, job: Job, params: Niah, rng: Random, taken: set[str]) -> None:
        self._job, self._params, self._taken = job, params, taken
        self._rng = Random(rng.getrandbits(64))
        self._lines: list[str] = []
        self._noise = params.haystack == "noise"

    def first(self, n: int) -> list[str]:
        """The first `n` lines."""
        if self._noise:
            return [templates.NOISE] * n
        while len(self._lines) < n:
            key, value = (self._other(kind) for kind in (self._params.key_type, self._params.value_type))
            self._lines.append(templates.needle(self._params.value_type, key, value))
        return self._lines[:n]

    def _other(self, kind: str) -> str:
        """A key or value that is not among the needles; distractors may repeat each other, as in the reference."""
        while (drawn := self._job.draw(kind, self._rng)) in self._taken:
            pass
        return drawn

    def cost(self, n: int) -> float:
        """About the tokens of `n` lines: those of one line, times n."""
        return n * self._job.meter.piece(f"{self.first(1)[0]}\n")
