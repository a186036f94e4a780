"""What a cell asks of its model: the questions as its method wants them, what they cost, which are asked together, and their
records. How a question of a kind is asked is its asker's (`contracts/asker.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.attention import idle
from harness.contracts.asker import Answer, asker_of
from harness.contracts.example import Example, Skipped
from harness.contracts.question import PICTURE, PREFILL
from harness.errors import Unsupported, UserError
from harness.plan.cells import Cell
from harness.running.settings import RunSettings

if TYPE_CHECKING:
    from torch import Tensor

    from harness.asking.batches import Mode
    from harness.attention.attach import Attached
    from harness.models.inputs import Sample
    from harness.models.view import View


@dataclass(frozen=True)
class Data:
    """What all cells of a task on a model have in common: its examples, what the model reads of each (before the method's
    `transform`), and what the task could not build.
    """

    examples: list[Example]
    samples: list[Sample]
    skipped: list[Skipped]


class Asked:
    """`new`: the most new tokens of every example."""

    def __init__(self, cell: Cell, view: View, data: Data, settings: RunSettings) -> None:
        self.cell, self.view, self.examples, self.settings = cell, view, data.examples, settings
        self.skipped, self.asker = data.skipped, asker_of(cell.task.asks)
        asked = zip(data.examples, data.samples, strict=True)
        given = [self.asker.given(view, cell.method, example.question, sample) for example, sample in asked]
        self.samples: list[Sample] = [one.sample for one in given]
        self._lengths, self.new = [one.length for one in given], [one.new for one in given]

    def check_turn(self) -> None:
        """A model that reads everything anew in the middle of an answer drops what a method remembered of the prompt."""
        method, turn = self.cell.method, self.view.turn
        remembers = any(hook.remembers for hook in method.hooks)
        if turn is None or not (turn.once and self.view.facts.rereads and remembers):
            return
        asked = zip(self.lengths, self.new, self.samples, strict=True)
        crossing = [len(s) for n, new, s in asked if len(s) - s.tail <= turn.at < n + new]
        if crossing:
            raise Unsupported(
                f"Method '{self.cell.method_label}' cannot follow this model here: at {turn.at} tokens it changes its rotary "
                f"frequencies and reads everything anew, which is in the middle of {len(crossing)} of the {len(self.new)} answers "
                f"(a prompt of {crossing[0]} tokens is one). Choose prompts that end before that with their answers, or begin "
                "after it."
            )

    @cached_property
    def batches(self) -> list[list[int]]:
        """Which samples are computed together, where nothing was computed before."""
        return self._planned(range(len(self.samples)))

    def batches_of(self, samples: set[int]) -> list[list[int]]:
        """Batches of some samples only: what is left of broken batches, put together anew, then whole ones as they were."""
        whole = [batch for batch in self.batches if samples.issuperset(batch)]
        return self._planned(sorted(samples.difference(*whole))) + whole

    def _planned(self, samples: Sequence[int]) -> list[list[int]]:
        """By picture where samples share its prefill, else by length."""
        from harness.asking.batches import plan_batches, plan_groups

        if not samples:
            return []
        lengths, new = [self.lengths[i] for i in samples], [self.new[i] for i in samples]
        budget = self.settings.batch_tokens
        if self.shares_pictures:
            found = plan_groups([self.samples[i].draft.image_key for i in samples], lengths, new, budget)
        else:
            tails = [self.samples[i].tail for i in samples]
            found = plan_batches(lengths, new, budget, self._batching, self.view.turn, tails)
        return [[samples[k] for k in batch] for batch in found]

    @cached_property
    def _batching(self) -> Mode:
        """Which prompts the method and the model can have in one batch."""
        turn = self.view.turn
        grows = self.cell.method.rewrites_prompt or self.cell.task.asks.grows  # what is read later
        if grows and turn is not None and not turn.stays(max(self.lengths), max(self.new)):
            return "one"
        return self.cell.method.batching

    @cached_property
    def shares_pictures(self) -> bool:
        """Whether prompts about one picture go on from one prefill."""
        method = self.cell.method
        return (
            self.settings.share
            and PICTURE in self.cell.task.asks.shares
            and self.view.turn is None
            and self.view.vision is not None
            and not self.view.vision.reads_text
            and method.prefix_safe
            and method.batching == "any"
            and not method.rewrites_prompt
            and all(s.draft.image_key for s in self.samples)
        )

    @cached_property
    def lengths(self) -> list[int]:
        """Prompt tokens of every example, those of later turns included. `UserError` if one does not fit the model."""
        limit = self.view.max_positions
        for e, length, n in zip(self.examples, self._lengths, self.new, strict=True):
            if limit and length + n > limit:
                raise UserError(
                    f"Example '{e.id}' of task '{self.cell.task_label}' has {length} prompt tokens and asks for {n} new ones, but model "
                    f"'{self.cell.model_label}' has {limit} positions. Nothing is truncated here: choose shorter lengths."
                )
        return self._lengths

    def prove(self, artifact: Mapping[str, Tensor]) -> dict[str, Any]:
        """Evidence that the method changes what is scored (design law 1: engaged or error). `artifact`: what it learned."""
        from harness.asking.proof import prove

        questions = [e.question for e in self.examples]
        return prove(
            self.view,
            self.cell.method,
            self.asker,
            questions,
            self.samples,
            max(self.new),
            self.settings.lowering,
            artifact,
        )

    def answers(self, batch: Sequence[int], attached: Attached) -> list[dict[str, Any]]:
        """The records of a batch, the prompts read under the method at work."""
        questions, samples = [self.examples[i].question for i in batch], [self.samples[i] for i in batch]
        share, decoding = self.shares_pictures, self.settings.decoding
        answers = self.asker.answer(self.view, questions, samples, attached, decoding, share)
        shared = [PICTURE] if share else []
        return [self.row(i, a, shared) for i, a in zip(batch, answers, strict=True)]

    def prefill(self, batch: Sequence[int], members: Sequence[Attached]) -> Any:
        """The prompts of a batch, read once by the dense model for several methods."""
        questions, samples = [self.examples[i].question for i in batch], [self.samples[i] for i in batch]
        return self.asker.prefill(self.view, questions, samples, members, self.settings.decoding)

    def go_on(self, prefilled: Any, batch: Sequence[int], attached: Attached) -> list[dict[str, Any]]:
        """The records of such a batch under one of the methods."""
        answers = self.asker.go_on(prefilled, [self.samples[i] for i in batch], attached)
        return [self.row(i, a, [PREFILL]) for i, a in zip(batch, answers, strict=True)]

    def row(self, i: int, answer: Answer, shared: Sequence[str]) -> dict[str, Any]:
        """The record of sample `i`."""
        tail, usage = self.samples[i].tail, dict(answer.usage or {})
        score = self.cell.task.score(self.examples[i], answer.value)
        row = self.examples[i].answered(answer.value) | ({"n_question_tokens": tail} if tail else {})
        row |= {
            "prompt_sha256": answer.digest, "n_prompt_tokens": answer.n_prompt, "n_new_tokens": answer.n_new,
            "finish": answer.finish, "metrics": dict(score.metrics), "parsed": score.parsed, "flags": list(score.flags),
            "usage": usage,
        }  # fmt: skip
        longest = answer.n_prompt if answer.longest is None else answer.longest
        is_idle = idle.equals_dense(self.cell.method, longest - tail, tail + answer.n_new, usage)
        return row | ({"shared": list(shared)} if shared else {}) | ({"idle": True} if is_idle else {})
