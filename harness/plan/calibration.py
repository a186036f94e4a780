"""The lesson of a calibrated method: what it must know about a model (a head list, curves over the layers) before it can act.

Its identity holds what of the model computes, the method with the parameters that it learns from, and the task whose
examples it learns on; not parameters that only matter once it is known, such as strengths. So variants of a method share
one lesson.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts.example import Example
from harness.contracts.lesson import Learned
from harness.identity.run_id import libraries
from harness.plan.identities import calibration_task, method_identity, task_identity

if TYPE_CHECKING:
    from harness.contracts.call import Request
    from harness.contracts.method import Method
    from harness.contracts.task import Task
    from harness.models.load import ModelSpec
    from harness.models.view import View

# What of a model a lesson is about: what it computes with, and how it is asked.
MODEL = ("weights", "config", "tokenizer", "revision", "dtype", "backend", "template", "template_date")


@dataclass(frozen=True)
class Calibration:
    """What `method` learns about the model of `spec` on `task`. `about`: the identity."""

    label: str
    spec: ModelSpec
    method: Method
    task: Task
    about: Mapping[str, Any]

    def identity(self) -> Mapping[str, Any]:
        return self.about

    def learn(self, folder: Path, progress: Callable[[str], None]) -> Learned:
        from harness.attention.attach import check
        from harness.models import kept_model

        progress(f"loading the model for {self.label}")
        view = kept_model.load(self.spec)
        check(view, self.method, "auto")
        progress(f"calibrating {self.label}")
        return Learned(self.method.calibrate(requests(self.task, view)))


def calibration(
    labels: tuple[str, str], spec: ModelSpec, method: Method, model_facts: Mapping[str, Any]
) -> Calibration | None:
    """The lesson of a method on a model (`labels`: method, model; `model_facts`: its identity); None if it learns nothing."""
    task = calibration_task(method)
    if task is None:
        return None
    facts = method_identity(method)
    learned = {k: facts["params"][k] for k in method.learns_from}
    own = {"target": facts["target"], "params": learned, "source": facts["source"]}
    model = {k: model_facts.get(k) for k in MODEL}
    about = {"model": model, "method": own, "task": task_identity(task), "libraries": libraries()}
    return Calibration(" on ".join(labels), spec, method, task, about)


def requests(task: Task, view: View) -> Iterator[tuple[Example, Request]]:
    """One request for each example, with nothing attached."""
    from harness.asking.generate import draft_of
    from harness.attention.attach import attach
    from harness.attention.request import LiveRequest
    from harness.attention.runtime import Idle
    from harness.models.inputs import collate, sample_of

    for example in task.examples(view):
        if isinstance(example, Example):
            draft = draft_of(task, example)
            yield example, LiveRequest(view, collate(view, [sample_of(view, draft)]), Idle(), attach)
