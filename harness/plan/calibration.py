"""The lesson of a calibrated method: what it must know about a model (a head list, curves over the layers) before it can act.

Its identity holds what of the model computes, the probe that looks, and the task on whose examples it looks; not the
method, whose parameters only matter once that is known. So variants of a method share one lesson. The rows of every example are
stored as soon as they are seen: a calibration that was interrupted goes on with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts.asker import asker_of
from harness.contracts.example import Example
from harness.contracts.lesson import Calibration, Learned
from harness.disk.whole import whole_rows
from harness.identity.run_id import extension_identity, libraries
from harness.plan.identities import calibration_task, task_identity
from harness.records.appending import Appended

if TYPE_CHECKING:
    from harness.contracts.call import Request
    from harness.contracts.method import Method
    from harness.contracts.table import Row
    from harness.contracts.task import Task
    from harness.models.load import ModelSpec
    from harness.models.view import View

# What of a model a lesson is about: what it computes with, and how it is asked.
MODEL = ("weights", "config", "tokenizer", "revision", "dtype", "backend", "template", "template_date")
SEEN = "rows.jsonl"  # while it learns: one line for each example that was looked at


@dataclass(frozen=True)
class CalibrationLesson:
    """What `method` learns about the model of `spec` on `task`. `about`: the identity."""

    label: str
    spec: ModelSpec
    method: Method
    wanted: Calibration
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
        seen = Appended(folder / SEEN)
        seen.load()
        seen.mend()
        try:
            return self.wanted.probe.conclude(self._rows(view, seen, progress))
        finally:
            seen.close()

    def _rows(self, view: View, seen: Appended, progress: Callable[[str], None]) -> list[Sequence[Row]]:
        """The rows of each example that the probe reads, until enough of them tell it something."""
        probe, most = self.wanted.probe, self.wanted.most
        known = {line["id"]: line["rows"] for _, line in whole_rows(seen.file)}
        found: list[Sequence[Row]] = []
        told = 0
        for example in self.task.examples(view):
            if not isinstance(example, Example) or not probe.reads(example):
                continue
            if example.id not in known:
                known[example.id] = [list(row) for row in probe.rows(example, request(self.task, example, view), None)]
                seen.append([{"id": example.id, "rows": known[example.id]}])
            found.append(known[example.id])
            told += probe.tells(found[-1])
            progress(f"calibrating {self.label}: {told}{f' of at most {most}' if most else ''} examples")
            if told == most:
                break
        return found


def calibration_lesson(
    labels: tuple[str, str], spec: ModelSpec, method: Method, model_facts: Mapping[str, Any]
) -> CalibrationLesson | None:
    """The lesson of a method on a model (`labels`: method, model; `model_facts`: its identity); None if it learns nothing."""
    wanted = method.lesson()
    if wanted is None:
        return None
    task = calibration_task(method, wanted)
    about = {
        "model": {k: model_facts.get(k) for k in MODEL}, "probe": extension_identity(wanted.probe), "most": wanted.most,
        "task": task_identity(task), "libraries": libraries(),
    }  # fmt: skip
    return CalibrationLesson(" on ".join(labels), spec, method, wanted, task, about)


def request(task: Task, example: Example, view: View) -> Request:
    """The request of an example, with nothing attached."""
    from harness.attention.attach import attach
    from harness.attention.request import LiveRequest
    from harness.attention.runtime import Idle
    from harness.models.inputs import collate

    sample = asker_of(task.asks).read(view, task, example, share=True)
    return LiveRequest(view, collate(view, [sample]), Idle(), attach)
