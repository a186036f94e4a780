"""Variable tracking, each example from its own generator."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from string import ascii_uppercase

from tasks.ruler import templates
from tasks.ruler.catalog import Vt
from tasks.ruler.job import Job
from tasks.ruler.robust.sized import Sized
from tasks.ruler.templates import NOISE, Built

EXAMPLE_LIMIT, EXAMPLE_SHARE = 500, 8  # the solved example takes at most 500 tokens and an eighth of the length


def prepare(job: Job, shots: int) -> Callable[[int], Sized]:
    """A function from the sample number to the example as a function of its noise sentences."""
    assert isinstance(job.params, Vt)
    params = job.params
    noise = job.meter.piece(f"{NOISE}\n")

    def example(index: int) -> Sized:
        taken = {"VAR"}
        chains = _chains(params, 5, job.rng(index, "chains"), taken)
        head = _solved(job, params, index, taken) if shots else ""
        places = job.rng(index, "places").getrandbits(64)

        def build(size: int) -> Built:
            built = _text(params, chains, size, places)
            return Built(head + built.prompt, built.prefix, built.references, built.marks, shots=shots)

        return Sized(build, lambda size: size * noise, low=1)

    return example


def _solved(job: Job, params: Vt, index: int, taken: set[str]) -> str:
    """The solved example of this sample: fitted alone, at least one noise sentence."""
    rng = job.rng(index, "example")
    chains = _chains(params, 3, rng, taken)
    places, noise = rng.getrandbits(64), job.meter.piece(f"{NOISE}\n")
    sized = Sized(lambda size: _text(params, chains, size, places), lambda size: size * noise, low=1)
    fitted = sized.fit(job.meter, min(EXAMPLE_LIMIT, job.length // EXAMPLE_SHARE))
    built = fitted[0] if fitted else sized.build(1)
    return f"{built.text} {' '.join(built.references)}\n\n"


Chain = tuple[list[str], str]


def _chains(params: Vt, letters: int, rng: Random, taken: set[str]) -> list[Chain]:
    """(names, value) per chain; no name and no value occurs twice in the whole prompt (`taken` remembers them)."""
    chains = []
    for _ in range(params.chains):
        names = [
            _fresh(lambda: "".join(rng.choices(ascii_uppercase, k=letters)), taken) for _ in range(params.hops + 1)
        ]
        chains.append((names, _fresh(lambda: str(rng.randint(10000, 99998)), taken)))
    return chains


def _fresh(draw: Callable[[], str], taken: set[str]) -> str:
    while (drawn := draw()) in taken:
        pass
    taken.add(drawn)
    return drawn


def _text(params: Vt, chains: list[Chain], size: int, place_seed: int) -> Built:
    rng, lines = Random(place_seed), [NOISE] * size
    for names, value in chains:
        assignments = templates.chain_lines(names, value)
        for shift, (place, line) in enumerate(
            zip(_places(rng, len(lines), len(assignments)), assignments, strict=True)
        ):
            lines.insert(place + shift, line)
    names, value = chains[0]
    prompt, prefix = templates.vt(lines, value, params.hops + 1)
    return Built(prompt, prefix, tuple(names), tuple(templates.chain_lines(names, value)))


def _places(rng: Random, lines: int, count: int) -> list[int]:
    """Sorted places for `count` assignments: different ones if there are enough lines, else shared ones."""
    return sorted(rng.sample(range(lines), count) if lines >= count else (rng.randint(0, lines) for _ in range(count)))
