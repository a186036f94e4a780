"""Needles in a haystack in the reference's draw order. Source: NVIDIA/RULER `scripts/data/synthetic/niah.py`."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tasks.ruler import templates
from tasks.ruler.catalog import SHORT, Niah
from tasks.ruler.haystack import DEPTHS, insert_at_depths, insert_at_indexes
from tasks.ruler.job import Job
from tasks.ruler.strict.search import generate, upper_bound
from tasks.ruler.templates import Built


def examples(job: Job) -> Iterator[Built | str]:
    """All samples of the job, from one generator seeded once."""
    assert isinstance(job.params, Niah)
    rng = Random(job.seed)
    params, step = job.params, 500 if job.params.haystack == "essay" else 25 if job.length >= SHORT else 5

    def probe(size: int) -> int:
        return job.meter.text(build(job, params, rng, size).text)

    yield from generate(
        job,
        probe,
        lambda _, size: build(job, params, rng, size),
        step,
        lambda: upper_bound(probe(step), step, job.length),
    )


def build(job: Job, params: Niah, rng: Random, size: int) -> Built:
    """One prompt over `size` words or lines. Draws: per key the key, then its values; distractors; places; queries."""
    keys, values, needles = [], [], []
    for _ in range(params.hidden_keys):
        keys.append(job.draw(params.key_type, rng))
        values.append([job.draw(params.value_type, rng) for _ in range(params.values)])
        needles += [templates.needle(params.value_type, keys[-1], value) for value in values[-1]]
    hidden = list(needles)
    Random(job.seed).shuffle(hidden)
    context = _context(job, params, rng, size, hidden)
    asked = rng.sample(range(len(keys)), params.queries)
    answers = tuple(value for i in asked for value in values[i])
    singular = params.queries * params.values == 1
    prompt, prefix = templates.niah(params.value_type, context, [keys[i] for i in asked], singular)
    marks = tuple(templates.needle(params.value_type, keys[i], value) for i in asked for value in values[i])
    return Built(prompt, prefix, answers, marks)


def _context(job: Job, params: Niah, rng: Random, size: int, needles: list[str]) -> str:
    if params.haystack == "essay":
        _, split = job.sources.splitter
        sentences = split(" ".join(job.sources.essay.first(size)).strip())
        depths = sorted(rng.sample(DEPTHS, len(needles)))
        return insert_at_depths(sentences, needles, depths)
    lines = (
        [templates.NOISE] * size if params.haystack == "noise" else [_distractor(job, params, rng) for _ in range(size)]
    )
    indexes = sorted(rng.sample(range(size), len(needles)), reverse=True)
    return insert_at_indexes(lines, needles, indexes)


def _distractor(job: Job, params: Niah, rng: Random) -> str:
    key = job.draw(params.key_type, rng)
    return templates.needle(params.value_type, key, job.draw(params.value_type, rng))
