"""One forward over named inputs, and what stands at some places of one of its outputs (`contracts.question.Predict`).

Questions whose inputs have equal shapes share a forward; nothing is padded. The batch is announced to the method at work
as a text that is scored is: rows of the forward from the first answered place on are those that predict what is scored.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.asking.likelihood import LOGITS, keywords, nonfinite
from harness.attention.usage import Counts, of_sample
from harness.contracts.asker import Answer, Asker
from harness.contracts.example import Example
from harness.contracts.inputs import Draft
from harness.contracts.question import Predict
from harness.contracts.task import Task
from harness.errors import UserError, nearest
from harness.models.inputs import Sample
from harness.models.view import View

if TYPE_CHECKING:
    from harness.asking.decoding import Decoding
    from harness.attention.attach import Attached

IDS = "input_ids"


class PredictAsker(Asker):
    """Asks `Predict` of a language model."""

    def read(self, view: View, task: Task, example: Example, share: bool) -> Sample:
        given = example.asks(Predict).inputs
        known = list(inspect.signature(view.lm.forward).parameters)
        for name in given:
            if name not in known:
                raise UserError(f"Model '{view.name}' has no input '{name}': {nearest(name, known)}")
        if IDS not in given:
            raise UserError(f"Model '{view.name}' reads token ids, and example '{example.id}' has no '{IDS}'.")
        return Sample(tuple(given[IDS]), Draft(example.id, ""))

    def answer(
        self, view: View, questions: Sequence[Predict], samples: Sequence[Sample], attached: Attached,
        decoding: Decoding, share: bool,
    ) -> list[Answer]:  # fmt: skip
        made: dict[int, Answer] = {}
        for group in _alike(view, questions, samples):
            asked = [questions[i] for i in group]
            found = predict(view, asked, attached)
            counts = attached.counted([0] * len(group))
            for b, (i, question, values) in enumerate(zip(group, asked, found, strict=True)):
                used: Sequence[Counts] = counts[b : b + 1] if counts else []
                made[i] = Answer(_taken(question, values), samples[i].digest, len(samples[i]), 0, usage=of_sample(used))
        return [made[i] for i in range(len(questions))]

    def scored(self, view: View, question: Predict, sample: Sample) -> Callable[[Attached | None], Tensor]:
        """The values; as log probabilities where only their order counts, so that a shift of all moves nothing."""

        def look(attached: Attached | None) -> Tensor:
            (values,) = predict(view, [question], attached)
            return values.log_softmax(-1) if question.take == "argmax" else values

        return look


@torch.no_grad()
def predict(view: View, questions: Sequence[Predict], attached: Attached | None = None) -> list[Tensor]:
    """The output of each question at its places, `[places, ...]` in float32. Their inputs have equal shapes."""
    firsts = [min(q.positions or (0,)) for q in questions]
    rows = [tuple(q.inputs[IDS]) for q in questions]
    for row in rows:
        view.check_length(len(row))
    given: dict[str, Any] = {
        name: torch.tensor([q.inputs[name] for q in questions], device=view.device) for name in questions[0].inputs
    }
    ids = given[IDS]
    mask = given.get("attention_mask", torch.ones_like(ids))
    given |= keywords(rows, ids, mask, firsts, attached)
    start = 0 if questions[0].output else min(firsts)  # of other outputs the library gives every place
    if start:
        given["logits_to_keep"] = torch.arange(start, ids.shape[1], device=ids.device)
    key, _, number = questions[0].output.partition(".")
    given |= {f"output_{key}": True} if number else {}  # the library's word for giving what it only gives on demand
    out = _named(view, view.lm(**given), questions[0].output).float()
    found = []
    for row, first, question, values in zip(rows, firsts, questions, out, strict=True):
        chosen = values if question.positions is None else values[[p - start for p in question.positions]]
        if bool(chosen.isnan().any()):
            raise nonfinite(view, row, first, attached)
        found.append(chosen)
    return found


def _alike(view: View, questions: Sequence[Predict], samples: Sequence[Sample]) -> list[list[int]]:
    """Numbers of the questions that share a forward: equal outputs, inputs of equal shapes, and no more logits at once
    than `LOGITS`.
    """
    groups: dict[Any, list[int]] = {}
    for i, question in enumerate(questions):
        shapes = {name: _shape(values) for name, values in question.inputs.items()}
        groups.setdefault((question.output, repr(sorted(shapes.items()))), []).append(i)
    found = []
    for group in groups.values():
        most = max(1, LOGITS // (len(samples[group[0]]) * int(view.config.vocab_size)))
        found += [group[start : start + most] for start in range(0, len(group), most)]
    return found


def _shape(values: Any) -> tuple[int, ...]:
    """Lengths of nested numbers."""
    return (len(values), *_shape(values[0])) if isinstance(values, list | tuple) and values else ()


def _named(view: View, out: Any, name: str) -> Tensor:
    """An output by name, the batch first; `name.i`: the i-th of several."""
    key, _, number = name.partition(".")
    found = out.get(key) if name else out.logits
    if isinstance(found, tuple) and number.isdecimal() and int(number) < len(found):
        found = found[int(number)]
    if not isinstance(found, Tensor):
        able = [k for k in out if k != "past_key_values"]
        raise UserError(f"Model '{view.name}' gives no output '{name}': {nearest(name, able)}")
    return found


def _taken(question: Predict, values: Tensor) -> Any:
    """The answer: nested lists of numbers."""
    if question.take == "argmax":
        return values.argmax(-1).tolist()
    return _rounded(values.tolist(), question.decimals)


def _rounded(values: Any, decimals: int) -> Any:
    return [_rounded(v, decimals) for v in values] if isinstance(values, list) else round(values, decimals)
