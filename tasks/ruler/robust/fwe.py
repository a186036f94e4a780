"""Frequent coded words, each example from its own generator."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random
from string import ascii_lowercase

from tasks.ruler import templates
from tasks.ruler.catalog import Fwe
from tasks.ruler.job import Job
from tasks.ruler.robust.sized import Sized
from tasks.ruler.templates import Built
from tasks.ruler.zeta import counts

ANSWERS = 3  # ranks 2 to 4; rank 1 is the dots


def prepare(job: Job) -> Callable[[int], Sized]:
    """A function from the sample number to the example as a function of the total N of the zeta distribution.

    Sizes are numbered so that every one has a clear answer: a total at which the third answer is tied with the next
    word stands for the next smaller total without a tie.
    """
    assert isinstance(job.params, Fwe)
    params = job.params
    ranks = max(params.vocabulary or job.limit // 50, ANSWERS + 1)
    lowest = next(total for total in count(1) if _clear(counts(ranks, total, params.alpha)))

    def example(index: int) -> Sized:
        rng = job.rng(index)
        words = ["...", *_vocabulary(rng, ranks - 1, params.word_length)]
        order = rng.getrandbits(64)
        costs = [job.meter.piece(f" {word}") for word in words[:64]]

        def build(total: int) -> Built:
            numbers = counts(ranks, total, params.alpha)
            while not _clear(numbers):
                total -= 1
                numbers = counts(ranks, total, params.alpha)
            entries = [word for word, n in zip(words, numbers, strict=True) for _ in range(n)]
            Random(order).shuffle(entries)
            return Built(*templates.fwe(entries), tuple(words[1 : ANSWERS + 1]))

        def growth(total: int) -> float:
            numbers = counts(ranks, total, params.alpha)
            return sum(n * cost for n, cost in zip(numbers, costs, strict=False)) + sum(numbers[64:]) * costs[-1]

        return Sized(build, growth, low=lowest)

    return example


def _clear(numbers: tuple[int, ...]) -> bool:
    """Whether the answers are the most frequent words after the dots, without a tie."""
    after = numbers[ANSWERS + 1] if len(numbers) > ANSWERS + 1 else 0
    return numbers[ANSWERS] > after


def _vocabulary(rng: Random, size: int, letters: int) -> list[str]:
    """Different random words."""
    words: dict[str, None] = {}
    while len(words) < size:
        words["".join(rng.choices(ascii_lowercase, k=letters))] = None
    return list(words)
