"""Prompts to go on from (`contracts.question.Generate`): the sample of a prompt with its pictures, and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.asking import generation
from harness.asking.side_by_side import Prefilled, prefill
from harness.asking.transform import transformed
from harness.attention import apart
from harness.attention.usage import of_sample
from harness.contracts.asker import Answer, Asker, Given
from harness.contracts.example import Example
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.contracts.question import Generate
from harness.contracts.task import Task
from harness.identity.run_id import sha256
from harness.models.inputs import Sample, sample_of
from harness.models.view import View

if TYPE_CHECKING:
    from harness.asking.decoding import Decoding
    from harness.attention.attach import Attached


class GenerateAsker(Asker):
    """Asks `Generate`."""

    def read(self, view: View, task: Task, example: Example, share: bool) -> Sample:
        draft = draft_of(task, example)
        return sample_of(view, draft if share else replace(draft, image_key=""))

    def given(self, view: View, method: Method, question: Generate, sample: Sample) -> Given:
        shown = apart.apart(view, sample) if method.question_phase == "decode" else sample
        return Given(shown, len(shown), question.max_new_tokens)

    def answer(
        self, view: View, questions: Sequence[Generate], samples: Sequence[Sample], attached: Attached,
        decoding: Decoding, share: bool,
    ) -> list[Answer]:  # fmt: skip
        method = attached.method
        shown = [transformed(view, method, s) for s in samples] if method.rewrites_prompt else samples
        limits = [q.max_new_tokens for q in questions]
        made = generation.generate(view, shown, limits, attached, decoding, share=share)
        return [answer_of(s, o) for s, o in zip(shown, made, strict=True)]

    def prefill(
        self, view: View, questions: Sequence[Generate], samples: Sequence[Sample], members: Sequence[Attached],
        decoding: Decoding,
    ) -> Prefilled:  # fmt: skip
        return prefill(view, samples, [q.max_new_tokens for q in questions], members, decoding)

    def go_on(self, prefilled: Prefilled, samples: Sequence[Sample], attached: Attached) -> list[Answer]:
        return [answer_of(s, o) for s, o in zip(samples, prefilled.go_on(attached), strict=True)]


def answer_of(sample: Sample, o: generation.Generation) -> Answer:
    """What was generated to a sample."""
    usage = of_sample(o.usage) | {"kv_bytes_logical": o.kv_bytes_logical}
    return Answer(o.text, sample.digest, o.n_prompt, o.n_new, o.finish, usage)


def draft_of(task: Task, example: Example) -> Draft:
    """The draft of an example, its pictures loaded."""
    asked = example.asks(Generate)
    pictures = tuple(task.image(name) for name in asked.images)
    key = "+".join(_content(p) for p in pictures)
    return Draft(example.id, asked.prompt, pictures, asked.answer_prefix, key, asked.query)


def _content(picture: Any) -> str:
    return sha256(f"{picture.mode}{picture.size}".encode() + picture.tobytes())[:32]
