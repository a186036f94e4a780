"""The dialogue recall task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.contracts.example import Example, Skipped
from harness.contracts.metric import Metric, Score
from harness.contracts.options import Length, Samples
from harness.contracts.question import Generate
from harness.contracts.task import Task, example_rng
from harness.contracts.tokens import Prompt, Tokens
from harness.disk.reading import Entry
from harness.errors import UserError, nearest
from tasks.recall.dialogue import Dialogue, draw
from zoo.material.text import words
from zoo.material.text.fit import largest_fit

STYLES = ("plain", "messages")
MOST_FACTS = 64


@dataclass(frozen=True, kw_only=True)
class Recall(Task):
    """Facts about the user, small talk between, one question at the end. Prompt and new tokens together fit the length.

    `facts` and `lengths` span the cells, `samples` examples each. Style `plain` is one text of `User:` and `Assistant:`
    lines, `messages` the same for a chat template.
    """

    title: ClassVar[str] = "a fact told in a dialogue: accuracy by length and number of facts"
    paper: ClassVar[str] = "own"
    licence: ClassVar[str] = "generated; word lists and small talk ship with the harness"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("accuracy"),)
    says_question: ClassVar[bool] = True
    by: ClassVar[tuple[str, ...]] = ("length", "facts")

    facts: Sequence[int] = (2, 6)
    lengths: Sequence[Length] = (256, 512, 1024)
    samples: Samples = 50
    style: str = "plain"
    max_new_tokens: Length = 8

    def __post_init__(self) -> None:
        for name in ("facts", "lengths"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, int) else tuple(value))

    @property
    def scorer(self) -> str:
        """Stored with every result."""
        return "recall/first_word"

    def validate(self) -> None:
        numbers = (*self.facts, *self.lengths, self.samples, self.max_new_tokens)
        if wrong := [n for n in numbers if not isinstance(n, int)]:
            raise UserError(
                f"recall needs whole numbers for facts, lengths, samples and max_new_tokens, not {wrong[0]!r}."
            )
        if self.style not in STYLES:
            raise UserError(f"recall.style is {self.style!r}: {nearest(self.style, STYLES)}")
        if (
            not self.facts
            or not all(1 <= n <= MOST_FACTS for n in self.facts)
            or len(set(self.facts)) < len(self.facts)
        ):
            raise UserError(f"recall.facts is {list(self.facts)}: give numbers from 1 to {MOST_FACTS}, each only once.")
        if not self.lengths or min(self.lengths) < 32 or len(set(self.lengths)) < len(self.lengths):
            raise UserError(
                f"recall.lengths is {list(self.lengths)}: give lengths of at least 32 tokens, each only once."
            )
        for name, value in (("samples", self.samples), ("max_new_tokens", self.max_new_tokens)):
            if value < 1:
                raise UserError(f"recall.{name} is {value}: give at least 1.")

    def provenance(self) -> Mapping[str, str]:
        return {"words": words.digest(words.nouns(), words.adjectives()), "smalltalk": words.digest(words.smalltalk())}

    def lengths_needed(self) -> int:
        return max(self.lengths)

    def size(self) -> tuple[int, int]:
        count = len(self.facts) * self.samples
        return count * len(self.lengths), count * sum(self.lengths)

    def examples(self, tokens: Tokens) -> Iterator[Example | Skipped]:
        talk = words.smalltalk()
        per_exchange = tokens.count("\n".join(talk)) / len(talk)
        for length in self.lengths:
            for facts in self.facts:
                for sample in range(self.samples):
                    rng = example_rng("recall", self.seed, facts, length, sample)
                    dialogue = draw(rng, facts, talk)
                    yield self._example(tokens, dialogue, per_exchange, length, sample)

    def read_row(self, row: Mapping[str, Any], index: int) -> Example:
        example = Example.from_row(row)
        Entry(example.meta, "meta").texts("others", ())
        return example

    def score(self, example: Example, answer: str | None) -> Score:
        """Right if the first word of the answer is the value, in any case. Flags: `empty`, `no_word`, `other_fact`."""
        found = re.search(r"[^\W_]+", answer or "")
        word = found.group().casefold() if found else ""
        right = bool(word) and word == (example.references or ("",))[0].casefold()
        if not (answer or "").strip():
            return Score({"accuracy": 0.0}, "", ("empty",))
        flag = (
            "no_word" if not word else "other_fact" if word in (example.meta.get("others") or ()) and not right else ""
        )
        return Score({"accuracy": float(right)}, word, (flag,) if flag else ())

    def _query(self, dialogue: Dialogue) -> str:
        """The end of the prompt from where it asks."""
        if self.style == "plain":
            return f"{dialogue.question()}\nAssistant:"
        return dialogue.question().partition(": ")[2]

    def _prompt(self, dialogue: Dialogue, talk: int) -> tuple[Prompt, str]:
        return (dialogue.plain if self.style == "plain" else dialogue.messages)(talk), dialogue.prefix()

    def _example(
        self, tokens: Tokens, dialogue: Dialogue, per_exchange: float, length: int, sample: int
    ) -> Example | Skipped:
        """As much small talk as fits; every fact stays."""

        def cost(talk: int) -> int:
            return len(tokens.prompt_ids(*self._prompt(dialogue, talk))) + self.max_new_tokens

        facts, least = len(dialogue.facts), cost(0)
        name, where = f"recall-{length}-{facts}-{sample}", {"length": length, "facts": facts, "sample": sample}
        talk = largest_fit(cost, length, guess=int((length - least) / per_exchange))
        if talk is None:
            parts = f"{facts} facts, the question and {self.max_new_tokens} new tokens"
            return Skipped(name, f"{parts} need {least} tokens, more than the length {length}", where)
        prompt, prefix = self._prompt(dialogue, talk)
        noun, value = dialogue.facts[dialogue.asked]
        meta = where | {
            "style": self.style, "noun": noun, "asked": dialogue.asked, "position": dialogue.position(talk),
            "others": [v for _, v in dialogue.facts if v != value], "n_talk": talk,
            "n_tokens": cost(talk) - self.max_new_tokens,
        }  # fmt: skip
        return Example(
            id=name,
            question=Generate(prompt, prefix, max_new_tokens=self.max_new_tokens, query=self._query(dialogue)),
            references=(value,),
            task="recall",
            meta=meta,
        )
