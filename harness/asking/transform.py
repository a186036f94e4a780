"""`Method.transform` and the plain generation that it may ask for."""

from __future__ import annotations

from dataclasses import replace

from harness.asking.generation import generate
from harness.attention.attach import attach
from harness.attention.doors.dispatch import silenced
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.models.inputs import Sample, sample_of
from harness.models.view import View


def transformed(view: View, method: Method, sample: Sample) -> Sample:
    """The sample that the model is shown under `method`."""
    if not method.rewrites_prompt:
        return sample
    changed = method.transform(view, sample.draft, lambda *args, **kwargs: ask(view, *args, **kwargs))
    return sample if changed is sample.draft else replace(sample_of(view, changed), rewritten=True)


def ask(view: View, draft: Draft, max_new_tokens: int, probe: Method | None = None) -> str:
    """The dense model's greedy answer to a draft, with `probe` attached: the method that asks is silent meanwhile, so that
    it is told the same whether it is at work already or not.
    """
    sample = sample_of(view, draft)
    with silenced(view.config):
        if probe is None:
            return generate(view, [sample], [max_new_tokens])[0].text
        with attach(view, probe) as attached:
            return generate(view, [sample], [max_new_tokens], attached)[0].text
