"""One request of a task with its references, and its form on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.contracts.tokens import Prompt
from harness.disk.reading import Entry


@dataclass(frozen=True)
class Example:
    """One request with its references. `cluster` is the unit of independence (document, dialogue, image).

    Generation tasks fill `prompt`. Likelihood tasks (`Task.kind == "nll"`) fill `input_ids` `[T]` and `n_scored`: the model's
    negative log-likelihood (nats) of the last `n_scored` ids is the output, as a JSON list of floats. Tasks that ask several
    things about one example (`Task.kind == "requests"`) fill `meta["requests"]` and `meta["contexts"]` as
    `harness/asking/lm_eval_tokens.py` describes; the output is a JSON list with one response for each request.
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
