"""The contract of a task: a deterministic source of examples plus a pure scorer.

A task is a frozen dataclass: its fields are the parameters of `configs/task/<name>.yaml` and (with the digest of its source and of
its data files) its identity. Class facts (`paper`, `metrics`, ...) are read by `heed list`, the tables and the statistics.
This module must stay importable without torch, numpy or transformers.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from harness.contracts.example import Example, Skipped
from harness.contracts.metric import Metric, Score
from harness.contracts.question import Generate, Question, Value
from harness.contracts.tokens import Tokens
from harness.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Base class of all tasks. Subclasses are `@dataclass(frozen=True, kw_only=True)`.

    Laws: `examples` is deterministic per example (`example_rng`), asking for more never changes the first ones, lengths are
    counted on final token ids, nothing is ever truncated. `score` is pure: no model, no tokenizer, no network.
    """

    title: ClassVar[str] = ""  # one line for `heed list tasks`
    paper: ClassVar[str] = ""  # arXiv id or URL, "own" for ours
    licence: ClassVar[str] = ""
    asks: ClassVar[type[Question]] = Generate  # the kind of question of all its examples
    says_question: ClassVar[bool] = (
        False  # every prompt says where its question begins (`query`), so it can be read apart
    )
    skips_long: ClassVar[bool] = False  # what the model has no positions for is skipped, so the examples depend on them
    needs_images: ClassVar[bool] = False  # only a vision-language model can answer
    metrics: ClassVar[tuple[Metric, ...]] = ()  # the first is the headline
    chance: ClassVar[Mapping[str, float]] = {}  # what guessing scores, as stored (0..1); not in the identity
    # flags of samples, and metrics, whose share is that of answers which could not be read; a large one raises an alarm
    unreadable: ClassVar[tuple[str, ...]] = ("empty",)
    without_output: ClassVar[str] = (
        "count as wrong"  # what examples without an output do to the metrics of `heed score`
    )
    folders: ClassVar[tuple[str, ...]] = ()  # fields that name folders; `provenance` holds the digest of what is used
    by: ClassVar[tuple[str, ...]] = ()  # keys of `Example.meta` by which results are broken down

    seed: int = 0
    tokenizer: str | None = None  # a folder or hub id; None: the model's own

    @property
    def lengths(self) -> Sequence[int] | None:
        """Tokens of its prompts, where an option of this name states them; those that a model cannot reach are left out."""
        return None

    @property
    def max_new_tokens(self) -> int | None:
        """Most new tokens of an answer, where an option of this name states it."""
        return None

    @property
    def scorer(self) -> str:
        """What scores, with the rules that it follows; stored with every result. Empty: the name of the task says it."""
        return ""

    def scoring(self) -> Mapping[str, str]:
        """Further facts about the scorer that a result should state: digests, versions."""
        return {}

    @abstractmethod
    def examples(self, tokens: Tokens) -> Iterator[Example | Skipped]:
        """Yield the examples in a fixed order."""

    @abstractmethod
    def score(self, example: Example, answer: Value | None) -> Score:
        """Score one answer, typed by the kind of question (`contracts/question.py`); None: there is none, which never raises."""

    def image(self, name: str) -> Any:
        """The picture behind a name in the `pictures` of a question, a `PIL.Image.Image` in mode RGB.

        Names hold no folders, so that examples mean the same on every machine. `UserError` naming the file if it is
        missing or broken; a task that checks its images beforehand says so in its README.
        """
        raise UserError(f"{type(self).__name__} has no images.")

    def validate(self) -> None:
        """Raise `UserError` for parameters that make no sense; called when the plan is made, before any model is loaded."""

    def data_files(self) -> tuple[Path, ...]:
        """Input files whose content enters the identity. Missing ones raise `UserError` in `validate`."""
        return ()

    def provenance(self) -> Mapping[str, str]:
        """What else the examples depend on (versions of word-list libraries, digests of built-in texts); enters the identity."""
        return {}

    def size(self) -> tuple[int, int]:
        """(number of examples, tokens over all of them, prompt + new): an estimate for `--dry-run`; (0, 0) if unknown."""
        return (0, 0)

    def lengths_needed(self) -> int:
        """Most token positions (prompt + new tokens) an example can need; 0 if unknown. Checked against the model's limit."""
        return 0

    def export(self, folder: Path) -> list[Path]:
        """Write the source data of a generated task (images, annotations) into `folder`, in the format in which the task
        reads real data; return what was written.
        """
        raise UserError(f"{type(self).__name__} has no source data to write; leave out folder=.")

    def official_row(self, example: Example) -> dict[str, Any]:
        """Extra keys of the benchmark's official layout, merged into the row that `heed data` writes."""
        return {}

    def read_row(self, row: Mapping[str, Any], index: int) -> Example:
        """An example from one row of a file in our own layout or the benchmark's official one (`index`: line number from 0)."""
        return Example.from_row(row, self.asks)

    def read_output(self, row: Mapping[str, Any], index: int) -> Mapping[str, Any]:
        """`{"id", "text"}` (and `finish`) from one row of an outputs file in our own layout or the benchmark's official one."""
        return row

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """What the benchmark's own program makes of all samples, as plain JSON, where that is more than our metrics tell.

        `rows` as in `figures`. It is stored with the cell as `summary.json` and handed on by `heed export`. None: nothing.
        """
        return None

    def figures(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
        """Write pictures and tables made from sample rows into `folder`; return their paths.

        A row is a stored sample (`{"id", "meta", "metrics", ...}`, with `idle` where the method could not act) with `method` (its
        label) and `receptive_field` (the share of the prompt that a static pattern can reach, or None).
        """
        return []


def example_rng(task: str, seed: int, *parts: object) -> Random:
    """A generator of its own for every example, so that order and number of examples never change one of them."""
    text = json.dumps([task, seed, *parts], sort_keys=True, default=str)
    return Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
