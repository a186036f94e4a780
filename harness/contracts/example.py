"""One example of a task: a question with its references, and its form on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.contracts.question import Generate, Question, Value
from harness.disk.reading import Entry

Q = TypeVar("Q", bound=Question)
ENVELOPE = {"prompt": "", "answer_prefix": "", "question": "", "images": [], "turns": [], "max_new_tokens": 0}


@dataclass(frozen=True)
class Example:
    """One question with its references. `cluster` is the unit of independence (document, dialogue, image)."""

    id: str
    question: Question = field(default_factory=Generate)
    references: tuple[str, ...] = ()
    cluster: str = ""  # empty: the example is independent of all others
    task: str = ""
    split: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def asks(self, kind: type[Q]) -> Q:
        """Its question, which must be of this kind."""
        if not isinstance(self.question, kind):
            raise TypeError(f"example '{self.id}' asks a {type(self.question).__name__}, not a {kind.__name__}")
        return self.question

    @property
    def digest(self) -> str:
        """16 hex digits over what is asked (text, images by name, turns, ids), whatever model or template it meets."""
        asked = json.dumps(self.question.asked, ensure_ascii=False, default=dict)
        return hashlib.sha256(asked.encode(errors="surrogatepass")).hexdigest()[:16]

    def answered(self, value: Value) -> dict[str, Any]:
        """Its part of the record of an answer: what was asked, and what was said in writing."""
        shown = list(self.question.pictures)
        row = {"id": self.id, "cluster": self.cluster, "asked_sha256": self.digest, "meta": self.meta_row()}
        row |= {"references": list(self.references)} | ({"images": shown} if shown else {})
        return row | {"text": self.question.write(value)}

    def meta_row(self) -> dict[str, Any]:
        """`meta` as rows hold it, with what the question keeps there."""
        if not self.question.in_meta:
            return dict(self.meta)
        asked = self.question.to_row()
        return {**self.meta, **{key: asked[key] for key in self.question.in_meta}}

    def to_row(self) -> dict[str, Any]:
        """The JSON envelope of `heed data`; what a kind of question has no use for stands there with its default."""
        asked = {key: value for key, value in self.question.to_row().items() if key not in self.question.in_meta}
        row = {"id": self.id, "task": self.task, "split": self.split} | ENVELOPE
        row |= {"references": list(self.references), "max_new_tokens": row.pop("max_new_tokens")}
        return row | {"cluster": self.cluster, "meta": self.meta_row()} | asked

    @classmethod
    def from_row(cls, row: Mapping[str, Any], kind: type[Question] = Generate) -> Example:
        """Inverse of `to_row` for a question of this kind; unknown keys are ignored, missing ones take their defaults.
        `UserError` names a key whose value has another type; the caller adds where the row stands.
        """
        read = Entry(row)
        question = kind.from_row(read)
        return cls(
            id=read.name("id"),
            question=question,
            references=read.texts("references", (), blank=True),
            cluster=read.text("cluster", "", blank=True),
            task=read.text("task", "", blank=True),
            split=read.text("split", "", blank=True),
            meta={key: value for key, value in read.inner("meta", {}).values.items() if key not in kind.in_meta},
        )


@dataclass(frozen=True)
class Skipped:
    """An example that cannot be built as asked (it does not fit). Tasks yield it in place of the example; it is counted, never hidden."""

    id: str
    reason: str
    meta: Mapping[str, Any] = field(default_factory=dict)
