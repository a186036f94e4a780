"""What of a method and of a task stands in a run id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.build import build
from harness.disk.content import file_digest
from harness.identity import run_id as identity
from harness.plan.named import named_files

if TYPE_CHECKING:
    from harness.contracts.lesson import Calibration
    from harness.contracts.method import Method
    from harness.contracts.task import Task


def method_identity(method: Method) -> dict[str, Any]:
    """Class, parameters and source of a method; a file that it names stands there by its content, the task that it is
    calibrated on by its identity, so that no path does.
    """
    facts = identity.extension_identity(method, named_files(method))
    lesson = method.lesson()
    if lesson is not None:
        node, task = identity.plain(lesson.task), calibration_task(method, lesson)
        name = f"task:{identity.sha256(identity.canonical(task_identity(task)))[:16]}"
        facts["params"] = {key: name if value == node else value for key, value in facts["params"].items()}
    return facts


def calibration_task(method: Method, lesson: Calibration) -> Task:
    """The task that the method is calibrated on."""
    task: Task = build(lesson.task, f"method.{method.name}.calibrate_on", kind="task")
    return task


def task_identity(task: Task) -> dict[str, Any]:
    """Class, parameters, source and data of a task; paths are replaced by the digest of what they name."""
    from harness.models.load import tokenizer_identity

    digests = data_digests(task)
    if task.tokenizer:
        digests[str(Path(task.tokenizer))] = f"tokenizer:{tokenizer_identity(str(task.tokenizer))}"
    return identity.extension_identity(task, digests, task.folders) | {
        "data": sorted(digests.values()),
        "provenance": dict(task.provenance()),
    }


def data_digests(task: Task) -> dict[str, str]:
    """path -> digest of the task's files as they are now."""
    return {str(path): f"sha256:{file_digest(path)}" for path in task.data_files()}
