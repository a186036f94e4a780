"""From a job to examples: choose the generator, fit, and write down how each example came about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.contracts.example import Example, Skipped
from harness.contracts.question import Generate
from tasks.ruler import templates
from tasks.ruler.catalog import Cwe, Fwe, Niah, Params, Qa, Vt
from tasks.ruler.job import Job, material
from tasks.ruler.robust import cwe, fwe, niah, qa, vt
from tasks.ruler.robust.sized import Sized
from tasks.ruler.strict import cwe as strict_cwe
from tasks.ruler.strict import fwe as strict_fwe
from tasks.ruler.strict import niah as strict_niah
from tasks.ruler.strict import qa as strict_qa
from tasks.ruler.strict import vt as strict_vt
from tasks.ruler.templates import Built

STRICT: Mapping[type[Params], Callable[[Job], Iterator[Built | str]]] = {
    Niah: strict_niah.examples,
    Vt: strict_vt.examples,
    Cwe: strict_cwe.examples,
    Fwe: strict_fwe.examples,
    Qa: strict_qa.examples,
}


TEMPLATES: Mapping[type[Params], str] = {
    Niah: templates.NIAH,
    Vt: templates.VT,
    Cwe: templates.CWE,
    Fwe: templates.FWE,
    Qa: templates.QA,
}


def examples_of(job: Job, strict: bool) -> Iterator[Example | Skipped]:
    """The samples of one task at one length."""
    facts = material(job.params, job.sources)
    return _strict(job, facts) if strict else _robust(job, facts)


def _strict(job: Job, facts: Mapping[str, str]) -> Iterator[Example | Skipped]:
    for index, built in enumerate(STRICT[type(job.params)](job)):
        if isinstance(built, str):
            yield _skipped(job, index, built, "strict")
        else:
            used = job.meter.text(built.text) + job.max_new_tokens
            yield _example(job, index, built, job.meter.prompt(built), {**facts, "mode": "strict", "row_length": used})


def _robust(job: Job, facts: Mapping[str, str]) -> Iterator[Example | Skipped]:
    makers = _makers(job)
    for index in range(job.samples):
        sized = (make(index) for make in makers)
        fitted = next((found for each in sized if (found := each.fit(job.meter, job.limit))), None)
        if fitted is None:
            yield _skipped(job, index, f"the smallest prompt does not fit into {job.limit} tokens", "robust")
        else:
            built, size, tokens = fitted
            facts = {**facts, "mode": "robust"}
            yield _example(
                job, index, built, tokens, {**facts, "units": size, "row_length": tokens + job.max_new_tokens}
            )


def _makers(job: Job) -> Sequence[Callable[[int], Sized]]:
    """Ways to build a sample, best first: a prompt that has no room for its solved example goes without."""
    if isinstance(job.params, Vt | Cwe):
        prepare = vt.prepare if isinstance(job.params, Vt) else cwe.prepare
        return [prepare(job, shots) for shots in range(job.params.shots, -1, -1)]
    if isinstance(job.params, Niah):
        return [niah.prepare(job)]
    return [fwe.prepare(job) if isinstance(job.params, Fwe) else qa.prepare(job)]


def _example(job: Job, index: int, built: Built, tokens: int, facts: Mapping[str, Any]) -> Example:
    meta: dict[str, Any] = {
        "task": job.task,
        "length": job.length,
        "index": index,
        "n_tokens": tokens,
        "fill": round((tokens + job.max_new_tokens) / job.length, 4),
        **facts,
    }
    if built.marks:
        meta["depths"] = [round(100 * built.prompt.rfind(mark) / len(built.prompt), 1) for mark in built.marks]
    if built.shots is not None:
        meta["shots"] = built.shots
    query = templates.question(built.prompt, TEMPLATES[type(job.params)])
    return Example(
        id=f"{job.task}-{job.length}-{index}",
        question=Generate(built.prompt, built.prefix, max_new_tokens=job.max_new_tokens, query=query),
        references=built.references,
        cluster=f"{job.task}:{built.cluster}" if built.cluster else "",
        task=job.task,
        meta=meta,
    )


def _skipped(job: Job, index: int, reason: str, mode: str) -> Skipped:
    meta = {"task": job.task, "length": job.length, "index": index, "mode": mode}
    return Skipped(f"{job.task}-{job.length}-{index}", f"{job.task} at {job.length} tokens: {reason}", meta)
