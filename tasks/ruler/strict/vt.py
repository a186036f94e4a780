"""Variable tracking in the reference's draw order. Source: NVIDIA/RULER `scripts/data/synthetic/variable_tracking.py`.

Names come from Python's generator, values from numpy's legacy one; both are seeded once per task.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from string import ascii_uppercase

from tasks.ruler import templates
from tasks.ruler.catalog import SHORT, Vt
from tasks.ruler.job import Job
from tasks.ruler.strict.search import generate, search, settle, upper_bound
from tasks.ruler.templates import EXAMPLE_VALUE, NOISE, Built

EXAMPLE_LIMIT, EXAMPLE_STEP = 500, 5


class Draws:
    """The two generators and everything that consumes them."""

    def __init__(self, seed: int, params: Vt) -> None:
        import numpy as np

        self._rng, self._values, self._params = Random(seed), np.random.RandomState(seed), params

    def name(self, letters: int) -> str:
        """A random name in capitals."""
        return "".join(self._rng.choices(ascii_uppercase, k=letters))

    def value(self) -> str:
        """A random value from 10000 to 99998."""
        return str(self._values.randint(10000, 99999))

    def chains(self, example: bool) -> list[tuple[list[str], str]]:
        """(names, value) per chain. A repeated name starts one more, incomplete chain: an `IndexError`, as in the
        reference."""
        size = self._params.hops + 1
        names = [self.name(3 if example else 5) for _ in range(size * self._params.chains)]
        while len(set(names)) < size * self._params.chains:
            names.append(self.name(3 if example else 5))
        chains = []
        for start in range(0, len(names), size):
            group = names[start : start + size]
            chains.append((group, EXAMPLE_VALUE if example else self.value()))
            if len(group) < size:
                raise IndexError("a variable name was drawn twice")
        return chains

    def build(self, size: int, example: bool = False) -> Built:
        """One prompt over `size` noise sentences."""
        chains = self.chains(example)
        lines = [NOISE] * size
        for names, value in chains:
            assignments = templates.chain_lines(names, value)
            places = sorted(self._rng.sample(range(len(lines)), len(assignments)))
            for shift, (place, line) in enumerate(zip(places, assignments, strict=True)):
                lines.insert(place + shift, line)
        names, value = chains[0]
        prompt, prefix = templates.vt(lines, value, self._params.hops + 1)
        return Built(prompt, prefix, tuple(names), tuple(templates.chain_lines(names, value)))

    def renamed(self, example: str) -> str:
        """The example with new names of equal length, replaced one after another, and a new value."""
        for old in example.strip().split()[-self._params.hops - 1 :]:
            example = example.replace(old, self.name(len(old)))
        return example.replace(EXAMPLE_VALUE, self.value())


def examples(job: Job) -> Iterator[Built | str]:
    """All samples of the job."""
    assert isinstance(job.params, Vt)
    draws, shots = Draws(job.seed, job.params), job.params.shots
    example = _example(job, draws) if shots else ""
    if example is None:
        yield from [
            f"no one-shot example fits into {EXAMPLE_LIMIT} tokens; the reference would try for ever"
        ] * job.samples
        return
    step, extra = 10 if job.length >= SHORT else 5, job.meter.text(example) if example else 0

    def probe(size: int) -> int:
        return job.meter.text(draws.build(size).text)

    def sample(_: int, size: int) -> Built:
        built = draws.build(size)
        head = draws.renamed(example) + "\n" if example else ""
        return Built(head + built.prompt, built.prefix, built.references, built.marks, shots=shots)

    yield from generate(
        job, lambda size: probe(size) + extra, sample, step, lambda: upper_bound(probe(step), step, job.length)
    )


def _example(job: Job, draws: Draws) -> str | None:
    """The solved example, fitted alone before anything else is drawn; None if it never fits."""

    def probe(size: int) -> int:
        return job.meter.text(draws.build(size, example=True).text)

    upper = upper_bound(probe(EXAMPLE_STEP), EXAMPLE_STEP, EXAMPLE_LIMIT)
    size = search(probe, EXAMPLE_STEP, upper, EXAMPLE_LIMIT)
    built = settle(
        lambda n: draws.build(n, example=True),
        lambda made: job.meter.text(made.text),
        size,
        EXAMPLE_STEP,
        EXAMPLE_LIMIT,
    )
    return None if built is None else f"{built.text} {' '.join(built.references)}\n"
