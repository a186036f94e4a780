"""The lesson of a calibrated method: what it must know about a model (a head list, curves over the layers) before it can act.

Its identity holds what of the model computes, the probe that looks, and the task on whose examples it looks; not the
method, whose parameters only matter once that is known. So variants of a method share one lesson. The rows of every example are
stored as soon as they are seen: a calibration that was interrupted goes on with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.attention.refusals import check_watched
from harness.contracts.asker import asker_of
from harness.contracts.example import Example
from harness.contracts.lesson import Calibration, Learned
from harness.contracts.probe import Probe
from harness.disk.whole import whole_rows
from harness.identity.run_id import extension_identity, libraries
from harness.plan.identities import calibration_task, task_identity
from harness.records.appending import Appended

if TYPE_CHECKING:
    from harness.attention.attach import Attached
    from harness.contracts.method import Method
    from harness.contracts.table import Row
    from harness.contracts.task import Task
    from harness.models.load import ModelSpec

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
        from harness.attention.attach import check, prepared
        from harness.models import kept_model

        progress(f"loading the model for {self.label}")
        view = kept_model.load(self.spec)
        check(view, self.method, "auto")
        attached = prepared(view, self._probe)
        seen = Appended(folder / SEEN)
        seen.load()
        seen.mend()
        try:
            return self.wanted.probe.conclude(self._rows(attached, seen, progress))
        finally:
            seen.close()

    @property
    def _probe(self) -> Probe:
        return cast(Probe, self.wanted.probe)

    def _rows(self, attached: Attached, seen: Appended, progress: Callable[[str], None]) -> list[Sequence[Row]]:
        """The rows of each example that the probe reads, until enough of them tell it something."""
        probe, most = self._probe, self.wanted.most
        known = {line["id"]: line["rows"] for _, line in whole_rows(seen.file)}
        found: list[Sequence[Row]] = []
        told = 0
        for example in self.task.examples(attached.view):
            if not isinstance(example, Example) or not probe.reads(example):
                continue
            if example.id not in known:
                known[example.id] = self._look(example, attached, prove=not known)
                seen.append([{"id": example.id, "rows": known[example.id]}])
            found.append(known[example.id])
            told += probe.tells(found[-1])
            progress(f"calibrating {self.label}: {told}{f' of at most {most}' if most else ''} examples")
            if told == most:
                break
        return found

    def _look(self, example: Example, attached: Attached, prove: bool) -> list[Row]:
        """What the probe sees of one example. `prove`: that it changes nothing, as in a cell of its own."""
        from harness.asking import proof
        from harness.asking.look import look

        view, question, asker = attached.view, example.question, asker_of(self.task.asks)
        sample = asker.read(view, self.task, example, share=True)
        if prove:
            new = asker.given(view, self._probe, question, sample).new
            proof.prove(view, self._probe, asker, [question], [sample], new, "auto", {})
        attached.reset()
        with attached.active():
            return look(asker, example, sample, attached)[1]


def calibration_lesson(
    labels: tuple[str, str], spec: ModelSpec, method: Method, model_facts: Mapping[str, Any]
) -> CalibrationLesson | None:
    """The lesson of a method on a model (`labels`: method, model; `model_facts`: its identity); None if it learns nothing."""
    wanted = method.lesson()
    if wanted is None:
        return None
    task = calibration_task(method, wanted)
    check_watched(cast(Probe, wanted.probe), task)
    about = {
        "model": {k: model_facts.get(k) for k in MODEL}, "probe": extension_identity(wanted.probe), "most": wanted.most,
        "task": task_identity(task), "libraries": libraries(),
    }  # fmt: skip
    return CalibrationLesson(" on ".join(labels), spec, method, wanted, task, about)
