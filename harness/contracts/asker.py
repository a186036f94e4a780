"""The contract of an asker: how one kind of question is read, priced, batched, proven and answered.

There is one for each kind, named by the class of the question (`Question.asker`). It holds nothing: `asker_of` makes one
for a kind, and every cell on questions of that kind uses it. `view` is the loaded model, `attached` the method at work on
it, `sample` the token ids that the model reads (`harness/models/inputs.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from harness.contracts.example import Example
from harness.contracts.question import Question, Value
from harness.contracts.task import Task


@dataclass(frozen=True)
class Answer:
    """What a model said to one question. `value` is typed by the kind of question; `n_prompt` and `n_new` are all tokens
    that were read and generated for it, `longest` those of its longest prompt (None: it has one); `digest` is of the ids
    that were read (`prompt_sha256`); `usage` what the method read of the keys (`attention/usage.py`).
    """

    value: Value
    digest: str
    n_prompt: int
    n_new: int
    finish: str = "stop"  # "length": it was cut at its limit
    usage: Mapping[str, Any] | None = None
    longest: int | None = None


class Given(NamedTuple):
    """A sample as a method is given it; `length`: token positions of its prompt, later turns included, `new`: the most new
    tokens. Batches are made by these.
    """

    sample: Any
    length: int
    new: int


class Asker(ABC):
    """Base of all askers."""

    @abstractmethod
    def read(self, view: Any, task: Task, example: Example, share: bool) -> Any:
        """The sample that the model reads of an example (of its longest part, where there are several). Without `share`
        nobody is told that two pictures are the same.
        """

    def given(self, view: Any, method: Any, question: Any, sample: Any) -> Given:
        """The same as this method wants to be given it, and what that costs."""
        return Given(sample, len(sample), 0)

    @abstractmethod
    def answer(
        self, view: Any, questions: Sequence[Any], samples: Sequence[Any], attached: Any, decoding: Any, share: bool
    ) -> list[Answer]:
        """One answer to each question of a batch, under the method at work. `share`: prompts about one picture go on
        from one prefill (of kinds that say `PICTURE`).
        """

    def prefill(
        self, view: Any, questions: Sequence[Any], samples: Sequence[Any], members: Sequence[Any], decoding: Any
    ) -> Any:
        """One dense prefill of a batch for several methods, none at work yet (of kinds that say `PREFILL`)."""
        raise NotImplementedError

    def go_on(self, prefilled: Any, samples: Sequence[Any], attached: Any) -> list[Answer]:
        """The answers under one of these methods, from what `prefill` gave."""
        raise NotImplementedError

    def scored(self, view: Any, question: Any, sample: Any) -> Callable[[Any], Any] | None:
        """How the numbers that are scored in one pass over this question are computed, as they are for its answer: a
        function of the method at work (None: dense) that gives a tensor of them, for the proof. None: it has no such
        number, so what is generated is compared.
        """
        return None


def asker_of(kind: type[Question]) -> Asker:
    """The asker of a kind of question."""
    return _made(kind.asker)


@cache
def _made(name: str) -> Asker:
    module, _, cls = name.rpartition(".")
    found: Asker = getattr(import_module(module), cls)()
    return found
