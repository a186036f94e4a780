"""Frequent coded words in the reference's draw order. Source: NVIDIA/RULER
`scripts/data/synthetic/freq_words_extraction.py`."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from string import ascii_lowercase

from tasks.ruler import templates
from tasks.ruler.catalog import Fwe
from tasks.ruler.job import Job
from tasks.ruler.templates import Built
from tasks.ruler.zeta import counts


def examples(job: Job) -> Iterator[Built | str]:
    """All samples of the job: one vocabulary for the size search, then one per sample, from one generator seeded
    once."""
    assert isinstance(job.params, Fwe)
    budget, rng = job.limit, Random(job.seed)
    size = job.params.vocabulary or budget // 50
    step = budget // 32
    if size < 1 or step < 1:
        yield from [
            f"a budget of {budget} tokens leaves no coded words; the reference stops with an error or never ends"
        ] * job.samples
        return
    total = _search(job, job.params, _vocabulary(rng, size, job.params, job.seed), step)
    for index in range(job.samples):
        built = _shrink(job, job.params, _vocabulary(rng, size, job.params, job.seed), total, step)
        if built is None:
            reason = f"the empty prompt does not fit into {budget} tokens; the reference would try for ever"
            yield from [reason] * (job.samples - index)
            return
        yield built


def _vocabulary(rng: Random, size: int, params: Fwe, seed: int) -> list[str]:
    """Random words, sorted, shuffled; the most frequent one is replaced by dots."""
    drawn = ["".join(rng.choices(ascii_lowercase, k=params.word_length)) for _ in range(size)]
    while len(set(drawn)) < size:
        drawn.append("".join(rng.choices(ascii_lowercase, k=params.word_length)))
    words = sorted(set(drawn))
    Random(seed).shuffle(words)
    return ["...", *words[1:]]


def _build(words: list[str], total: int, params: Fwe, seed: int) -> Built:
    entries = [word for word, n in zip(words, counts(len(words), total, params.alpha), strict=True) for _ in range(n)]
    Random(seed).shuffle(entries)
    return Built(*templates.fwe(entries), tuple(words[1:4]))


def _search(job: Job, params: Fwe, words: list[str], step: int) -> int:
    """Grow the total until the prompt reaches the budget, then take one step back."""
    total = job.limit // params.word_length
    while job.meter.text(_build(words, total, params, job.seed).text) < job.limit:
        total += step
    return total - step


def _shrink(job: Job, params: Fwe, words: list[str], total: int, step: int) -> Built | None:
    """Take steps off the total until the prompt fits; None if not even the empty one does."""
    while job.meter.text((built := _build(words, total, params, job.seed)).text) > job.limit:
        if total <= 0:
            return None
        total -= step
    return built
