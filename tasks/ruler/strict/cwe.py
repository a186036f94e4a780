"""Common words in the reference's draw order. Source: NVIDIA/RULER `scripts/data/synthetic/common_words_extraction.py`.

Above the size of the word pool the reference turns to a larger English list that its repository does not hold; here
such samples are skipped with that reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tasks.ruler import templates
from tasks.ruler.catalog import SHORT, Cwe
from tasks.ruler.job import Job
from tasks.ruler.strict.search import generate
from tasks.ruler.templates import Built

STEP = 10
ESTIMATE = 4096  # words of the first estimate


class PoolTooSmall(Exception):
    """More words are asked for than the word lists hold."""


class Lists:
    """The shuffled pool and the generator that draws lists from it."""

    def __init__(self, seed: int, pool: list[str], params: Cwe) -> None:
        self._seed, self._rng, self._pool, self._params = seed, Random(seed), list(pool), params
        Random(seed).shuffle(self._pool)

    def draw(self, size: int, often: int, seldom: int) -> tuple[list[str], list[str]]:
        """(all entries, common words) of a list over `size` different words."""
        if size > len(self._pool):
            raise PoolTooSmall(f"{size} different words are needed, the word lists hold {len(self._pool)}")
        words = self._rng.sample(self._pool, size)
        common, uncommon = words[: self._params.common], words[self._params.common :]
        entries = common * often + uncommon * seldom
        Random(self._seed).shuffle(entries)
        return entries, common

    def build(self, size: int, length: int) -> Built:
        """One prompt: the example's list is drawn first, then the main list."""
        count = self._params.common
        shape = (40, 10, 3) if length >= SHORT else (20, 3, 1)
        shots = [templates.cwe_example(*self.draw(*shape), count) for _ in range(self._params.shots)]
        entries, common = self.draw(size, *self._params.repeats(length))
        prompt, prefix = templates.cwe(entries, count)
        return Built("\n".join(shots) + "\n" + prompt, prefix, tuple(common), shots=self._params.shots)


def examples(job: Job) -> Iterator[Built | str]:
    """All samples of the job."""
    assert isinstance(job.params, Cwe)
    lists = Lists(job.seed, job.sources.pool, job.params)

    def probe(size: int) -> int:
        return job.meter.text(lists.build(size, job.length).text)

    def upper() -> int:
        return max(int(job.length // (probe(ESTIMATE) / ESTIMATE)) * 2, STEP * 2)

    done = 0
    try:
        for built in generate(job, probe, lambda _, size: lists.build(size, job.length), STEP, upper):
            done += 1
            yield built
    except PoolTooSmall as error:
        yield from [f"{error}; the reference takes a larger English list, which is not published as text"] * (
            job.samples - done
        )
