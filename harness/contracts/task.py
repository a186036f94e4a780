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
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal, Protocol

from harness.errors import UserError
from harness.reading import Entry


class Tokens(Protocol):
    """What a task may ask of a tokenizer. A loaded model's view offers it, and so does a tokenizer alone (`heed data`)."""

    @property
    def name(self) -> str:
        """Shown to people."""
        ...

    @property
    def digest(self) -> str:
        """sha256 of the tokenizer's files."""
        ...

    @property
    def start_ids(self) -> tuple[int, ...]:
        """What the tokenizer puts before every text (its bos, if it adds one), without any template."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without special tokens."""
        ...

    def count(self, text: str) -> int:
        """Number of tokens of `text` without special tokens."""
        ...

    def prompt_ids(self, prompt: Prompt, answer_prefix: str = "") -> list[int]:
        """The final token ids the model sees: template and special tokens included, ending where generation begins."""
        ...


Prompt = str | tuple[Mapping[str, str], ...]  # plain text, or chat messages {"role", "content"}


@dataclass(frozen=True)
class Example:
    """One request with its references. `cluster` is the unit of independence (document, dialogue, image).

    Generation tasks fill `prompt`. Likelihood tasks (`Task.kind == "nll"`) fill `input_ids` `[T]` and `n_scored`: the model's
    negative log-likelihood (nats) of the last `n_scored` ids is the output, as a JSON list of floats. Tasks that ask several
    things about one example (`Task.kind == "requests"`) fill `meta["requests"]` and `meta["contexts"]` as
    `harness/generation/requests.py` describes; the output is a JSON list with one response for each request.
    """

    id: str
    prompt: Prompt = ""
    answer_prefix: str = (
        ""  # text with which the answer must begin; appended after the chat template's assistant header
    )
    references: tuple[str, ...] = ()
    max_new_tokens: int = 32
    cluster: str = ""  # empty: the example is independent of all others
    images: tuple[str, ...] = ()  # names for `Task.image`; they stand at the beginning of the first user message
    question: str = (
        ""  # the end of the prompt (of its last message) from where the question begins; empty: not declared
    )
    turns: tuple[str, ...] = ()  # further user messages of one conversation; the output is a JSON list of all answers
    input_ids: tuple[int, ...] = ()
    n_scored: int = 0
    task: str = ""
    split: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """16 hex digits over what is asked (text, images by name, turns, ids), whatever model or template it meets."""
        asked: list[Any] = [self.prompt, self.answer_prefix, self.images, self.turns, self.input_ids]
        if "requests" in self.meta:
            asked += [self.meta.get("contexts"), self.meta["requests"]]
        return hashlib.sha256(
            json.dumps(asked, ensure_ascii=False, default=dict).encode(errors="surrogatepass")
        ).hexdigest()[:16]

    def to_row(self) -> dict[str, Any]:
        """The JSON envelope of `heed data` (messages become a list)."""
        prompt = self.prompt if isinstance(self.prompt, str) else [dict(m) for m in self.prompt]
        row: dict[str, Any] = {
            "id": self.id, "task": self.task, "split": self.split, "prompt": prompt, "answer_prefix": self.answer_prefix,
            "question": self.question, "images": list(self.images), "turns": list(self.turns), "references": list(self.references),
            "max_new_tokens": self.max_new_tokens, "cluster": self.cluster, "meta": dict(self.meta),
        }  # fmt: skip
        if self.input_ids:
            row |= {"input_ids": list(self.input_ids), "n_scored": self.n_scored}
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Example:
        """Inverse of `to_row`; unknown keys are ignored, missing ones take their defaults. `UserError` names a key whose value
        has another type; the caller adds where the row stands.
        """
        read = Entry(row)
        return cls(
            id=read.name("id"),
            prompt=_prompt_of(read),
            answer_prefix=read.text("answer_prefix", "", blank=True),
            references=read.texts("references", (), blank=True),
            max_new_tokens=read.whole("max_new_tokens", 32),
            cluster=read.text("cluster", "", blank=True),
            question=read.text("question", "", blank=True),
            images=read.texts("images", ()),
            turns=read.texts("turns", (), blank=True),
            input_ids=read.wholes("input_ids", ()),
            n_scored=read.whole("n_scored", 0),
            task=read.text("task", "", blank=True),
            split=read.text("split", "", blank=True),
            meta=read.inner("meta", {}).values,
        )


def _prompt_of(row: Entry) -> Prompt:
    """A text, or chat messages, each with a role and a content."""
    if not isinstance(row.values.get("prompt"), list):
        return row.text("prompt", "", blank=True)
    for message in (messages := row.entries("prompt")):
        message.text("role"), message.text("content", blank=True)
    return tuple(dict(message.values) for message in messages)


@dataclass(frozen=True)
class Skipped:
    """An example that cannot be built as asked (it does not fit). Tasks yield it in place of the example; it is counted, never hidden."""

    id: str
    reason: str
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """Metrics of one example: fractions in [0, 1] or plain numbers (never NaN), what was parsed, and flags such as `empty`."""

    metrics: Mapping[str, float]
    parsed: Any = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """How per-example numbers become one number.

    `mean`: mean over examples of `metrics[name]`. `ratio`: sum of `metrics[num]` / sum of `metrics[den]`, then `transform`
    (for example perplexity = exp(sum nll / sum tokens)). `ratio` with `macro`: the mean over the suffixes `s` in `macro`
    of that ratio of `metrics[num@s]` and `metrics[den@s]`. An example that lacks the keys of a suffix is no part of it,
    and a suffix that no example has is left out of the mean. A denominator of 0 gives `undefined`; None: no value.
    """

    name: str
    kind: Literal["mean", "ratio"] = "mean"
    num: str = ""
    den: str = ""
    transform: Literal["identity", "exp"] = "identity"
    higher_is_better: bool = True
    percent: bool = True  # rendered x100 with two decimals
    macro: tuple[str, ...] = ()
    undefined: float | None = None
    shown: bool = True  # in the terminal's table, where the first metric of a task always stands
    judged: bool = True  # a change for the worse is a loss; False for descriptions (length, share of yes)


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Base class of all tasks. Subclasses are `@dataclass(frozen=True, kw_only=True)`.

    Laws: `examples` is deterministic per example (`example_rng`), asking for more never changes the first ones, lengths are
    counted on final token ids, nothing is ever truncated. `score` is pure: no model, no tokenizer, no network.
    """

    title: ClassVar[str] = ""  # one line for `heed list tasks`
    paper: ClassVar[str] = ""  # arXiv id or URL, "own" for ours
    licence: ClassVar[str] = ""
    kind: ClassVar[Literal["generate", "nll", "requests"]] = "generate"
    says_question: ClassVar[bool] = False  # every example has a `question` (text, one turn), so it can be read apart
    needs_images: ClassVar[bool] = False  # only a vision-language model can answer
    metrics: ClassVar[tuple[Metric, ...]] = ()  # the first is the headline
    chance: ClassVar[Mapping[str, float]] = {}  # what guessing scores, as stored (0..1); not in the identity
    folders: ClassVar[tuple[str, ...]] = ()  # fields that name folders; `provenance` holds the digest of what is used
    by: ClassVar[tuple[str, ...]] = ()  # keys of `Example.meta` by which results are broken down

    seed: int = 0
    tokenizer: str | None = None  # a folder or hub id; None: the model's own

    @abstractmethod
    def examples(self, tokens: Tokens) -> Iterator[Example | Skipped]:
        """Yield the examples in a fixed order."""

    @abstractmethod
    def score(self, example: Example, text: str | None) -> Score:
        """Score one output text. Empty or `None` text never raises."""

    def image(self, name: str) -> Any:
        """The picture behind a name in `Example.images`, a `PIL.Image.Image` in mode RGB.

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
        return Example.from_row(row)

    def read_output(self, row: Mapping[str, Any], index: int) -> Mapping[str, Any]:
        """`{"id", "text"}` (and `finish`) from one row of an outputs file in our own layout or the benchmark's official one."""
        return row

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
