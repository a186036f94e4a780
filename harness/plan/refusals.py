"""What will not be run, and why, by facts that are known before a model is loaded: its positions, whether it sees, what the
method and the task say of themselves. The plan names it and the run refuses by the same functions, in the same words.
Imports no torch.

What only a loaded model or real prompts can tell (layers, the exact length of a prompt, whether a logit moves) stays with
`attach.check` and the proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.attention.refusals import check_eyes, check_fixed, check_pictures, check_scored, check_watched, unchanged
from harness.contracts.example import Skipped
from harness.contracts.method import Method
from harness.contracts.task import Task
from harness.errors import Unsupported, UserError
from harness.models import checkpoint
from harness.models.blind import blind
from harness.models.families import family_of

if TYPE_CHECKING:
    from harness.models.load import ModelSpec
    from harness.plan.cells import Cell


@dataclass(frozen=True)
class Facts:
    """Of a model: token positions (None: not known) and whether it reads pictures."""

    positions: int | None
    sees: bool


def facts(spec: ModelSpec) -> Facts:
    """As `config.json` tells them; what a library adds to it in silence is not known here."""
    config = checkpoint.read_config(spec.source().metadata())
    family = family_of(config)
    stated = (checkpoint.text_value(config, family, key) for key in ("max_position_embeddings", "n_positions"))
    return Facts(spec.max_positions or next((n for n in stated if n), None), family.sight is not None)


# -- lengths ----------------------------------------------------------------------------------------------------------


def fitting(task: Task, task_label: str, model_label: str, positions: int | None) -> tuple[Task, tuple[Skipped, ...]]:
    """The task with those of its `lengths` that a model of so many positions can read, and the examples of the others as
    skipped ones, with the reason. `UserError` if none is left.
    """
    if not positions or task.lengths_needed() <= positions:
        return task, ()
    long = [n for n in _lengths(task) if _only(task, n).lengths_needed() > positions]
    rest = [n for n in _lengths(task) if n not in long]
    if not rest:
        raise UserError(
            f"task '{task_label}' needs {task.lengths_needed()} positions, but model '{model_label}' has {positions} "
            f"(max_position_embeddings). Choose shorter lengths (task.{task_label}.lengths=[...]), or raise "
            f"model.{model_label}.max_positions if the model was made to go further."
        )
    skipped = (one for n in long for one in _too_long(_only(task, n), n, model_label, positions))
    return _with(task, rest), tuple(skipped)


def _lengths(task: Task) -> list[int]:
    return list(task.lengths or ())


def _with(task: Task, lengths: list[int]) -> Task:
    changes: dict[str, Any] = {"lengths": tuple(lengths)}
    return replace(task, **changes)


def _only(task: Task, length: int) -> Task:
    return _with(task, [length])


def _too_long(task: Task, length: int, model_label: str, positions: int) -> Iterator[Skipped]:
    """One for each example that the length would have had."""
    reason = (
        f"length {length} needs {task.lengths_needed()} positions, but model '{model_label}' has {positions} "
        "(max_position_embeddings)"
    )
    return (Skipped(f"length-{length}-{i}", reason, {"length": length}) for i in range(max(1, task.size()[0])))


# -- method, model and task -------------------------------------------------------------------------------------------


def check_search(method: Method, label: str, search: str) -> None:
    """`Unsupported` if the method cannot work with the run's way of decoding."""
    if search not in method.search:
        able = " or ".join(sorted(method.search))
        raise Unsupported(f"Method '{label}' cannot work with decoding.search={search}; it works with {able}.")


def check_question(method: Method, label: str, task: Task, task_label: str) -> None:
    """`Unsupported` if a method reads the question token by token and the task does not say where it begins. A text that is
    scored asks nothing: see `check_scored`.
    """
    says = task.says_question and not task.asks.grows  # where the further questions of a dialogue begin, nobody says
    if method.question_phase == "decode" and not task.asks.one_pass and not says:
        raise Unsupported(
            f"Method '{label}' reads the question token by token (question=decode), but task '{task_label}' does not say where "
            f"its questions begin. Set method.{label}.question=prefill, which makes them part of the dense prefill, or choose a "
            "task that says it."
        )


# -- the plan ---------------------------------------------------------------------------------------------------------


def refusal(cell: Cell, model: Facts, search: str) -> str:
    """Why the run of a cell will end without a number, as far as that is known now; empty if nothing speaks against it."""
    try:
        _check(cell, model, search)
    except UserError as error:
        return str(error)
    return ""


def _check(cell: Cell, model: Facts, search: str) -> None:
    method = cell.method
    check_search(method, cell.method_label, search)
    check_question(method, cell.method_label, cell.task, cell.task_label)
    check_watched(method, cell.task)
    check_eyes(method, cell.spec, model.sees)
    if cell.task.needs_images and not model.sees:
        raise blind(cell.spec.name)
    check_pictures(method, cell.task.needs_images)
    task, _ = fitting(cell.task, cell.task_label, cell.model_label, model.positions)
    if task.asks.one_pass:
        check_scored(method)
    if not task.asks.in_words:
        check_fixed(method)
    most = task.lengths_needed()  # no prompt is longer: a budget that covers this covers all
    if most and (why := method.idle(most)):
        raise unchanged(method, why)
