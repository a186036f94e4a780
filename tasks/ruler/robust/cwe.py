"""Common words, each example from its own generator."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tasks.ruler import templates
from tasks.ruler.catalog import SHORT, Cwe
from tasks.ruler.job import Job
from tasks.ruler.robust.sized import Sized
from tasks.ruler.templates import Built


def prepare(job: Job, shots: int) -> Callable[[int], Sized]:
    """A function from the sample number to the example as a function of its number of different words.

    The list holds at least as many uncommon words as common ones: fewer would leave nothing to tell apart.
    """
    assert isinstance(job.params, Cwe)
    params, length = job.params, job.length
    often, seldom = params.repeats(length)

    def example(index: int) -> Sized:
        head = _solved(params, length, job.sources.pool, job.rng(index, "example")) if shots else ""
        rng = job.rng(index, "list")
        words = _Words(job, params.common, rng)
        order = rng.getrandbits(64)

        def build(size: int) -> Built:
            entries = words.common * often + words.uncommon(size - params.common) * seldom
            Random(order).shuffle(entries)
            prompt, prefix = templates.cwe(entries, params.common)
            return Built(head + prompt, prefix, tuple(words.common), shots=shots)

        def growth(size: int) -> float:
            entries = params.common * often + (size - params.common) * seldom
            uncommon = words.uncommon(min(size - params.common, 64))
            mean = sum(map(words.cost, uncommon)) / max(1, len(uncommon))
            return seldom * mean * (size - params.common) + _numbers_cost(job, entries)

        return Sized(build, growth, low=2 * params.common)

    return example


def _solved(params: Cwe, length: int, pool: list[str], rng: Random) -> str:
    """The solved example: 40 words, repeated 10 and 3 times, from 4096 tokens on; 20 words, 3 and 1, below."""
    size, often, seldom = (40, 10, 3) if length >= SHORT else (20, 3, 1)
    words = rng.sample(pool, max(size, 2 * params.common))
    common, uncommon = words[: params.common], words[params.common :]
    entries = common * often + uncommon * seldom
    rng.shuffle(entries)
    return templates.cwe_example(entries, common, params.common) + "\n"


class _Words:
    """The words of one list: word i is the same for every size. Beyond the pool come `adjective-noun` compounds."""

    def __init__(self, job: Job, common: int, rng: Random) -> None:
        self._job, self._rng = job, Random(rng.getrandbits(64))
        shuffled = rng.sample(job.sources.pool, len(job.sources.pool))
        self.common, self._rest = shuffled[:common], shuffled[common:]
        self._compounds: set[str] = set()

    def uncommon(self, n: int) -> list[str]:
        """The first `n` uncommon words."""
        while len(self._rest) < n:
            self._rest.append(self._compound())
        return self._rest[:n]

    def _compound(self) -> str:
        """A new compound that contains none of the common words, so that it cannot be mistaken for an answer."""
        while True:
            word = self._rng.choice(self._job.sources.keys)
            if word not in self._compounds and not any(common in word for common in self.common):
                self._compounds.add(word)
                return word

    def cost(self, word: str) -> int:
        return self._job.meter.piece(f" {word}")


def _numbers_cost(job: Job, entries: int) -> float:
    """About the tokens of the numbers ` 1.` to ` n.`: those of the largest number for each."""
    return entries * job.meter.piece(f" {max(1, entries)}.")
