"""Questions over documents in the reference's draw order. Source: NVIDIA/RULER `scripts/data/synthetic/qa.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from tasks.ruler import templates
from tasks.ruler.documents import QaSet, Question
from tasks.ruler.job import Job
from tasks.ruler.strict.search import generate, upper_bound
from tasks.ruler.templates import Built

STEP = 10


def examples(job: Job) -> Iterator[Built | str]:
    """Sample i asks question i of the file; the size search always uses question 0."""
    data, rng = job.qa_set, Random(job.seed)

    def build(index: int, size: int) -> Built:
        return _build(data, data.questions[index], size, rng, job.seed)

    def probe(size: int) -> int:
        return job.meter.text(build(0, size).text)

    asked = replace(job, samples=min(job.samples, len(data.questions)))
    yield from generate(asked, probe, build, STEP, lambda: upper_bound(probe(STEP), STEP, job.length))
    yield from [f"the file holds only {len(data.questions)} answerable questions"] * (job.samples - asked.samples)


def _build(data: QaSet, question: Question, size: int, rng: Random, seed: int) -> Built:
    documents = [data.documents[i] for i in _select(data, question, size, rng)]
    Random(seed).shuffle(documents)
    prompt, prefix = templates.qa(documents, question.text)
    marks = tuple(data.documents[i] for i in question.core)
    return Built(prompt, prefix, question.answers, marks, cluster=question.cluster)


def _select(data: QaSet, question: Question, size: int, rng: Random) -> list[int]:
    """Indexes of the documents, before they are shuffled. Negative sample sizes raise `ValueError`, as in the
    reference."""
    total = len(data.documents)
    gold, related = list(question.gold), list(question.related)
    if size >= total:
        return [i % total for i in range(size)]
    if size - len(gold) <= len(related):
        return gold + rng.sample(related, size - len(gold))
    taken = {*gold, *related}
    others = [i for i in range(total) if i not in taken]
    return gold + related + rng.sample(others, max(0, size - len(gold) - len(related)))
