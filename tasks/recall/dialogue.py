"""The wording of the dialogue, and where facts and small talk stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from harness.contracts.tokens import Prompt
from zoo.material.text import words

FACT = "User: My favorite {noun} is {value}.\nAssistant: OK. Thank you, I will remember that."
QUESTION = "User: What is my favorite {noun}?"
ANSWER = " Your favorite {noun} is"  # behind `Assistant:`, or behind the header that a chat template writes
SPEAKERS = {"User": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Dialogue:
    """What is told and asked, and where: `spots` in [0, 1), one per fact, and the `order` of the small talk."""

    facts: tuple[tuple[str, str], ...]  # noun, value
    asked: int
    spots: tuple[float, ...]
    order: tuple[str, ...]

    def exchanges(self, talk: int) -> list[str]:
        """All facts in order, spread over `talk` exchanges of small talk (which start over when they end)."""
        lines = [self.order[i % len(self.order)] for i in range(talk)]
        for spot, (noun, value) in reversed(list(zip(self.spots, self.facts, strict=True))):
            lines.insert(int(spot * (talk + 1)), FACT.format(noun=noun, value=value))
        return lines

    def plain(self, talk: int) -> str:
        """One text, ending where the assistant speaks."""
        return "\n".join([*self.exchanges(talk), self.question(), "Assistant:"])

    def messages(self, talk: int) -> Prompt:
        """The same as chat messages, ending with the question."""
        lines = "\n".join([*self.exchanges(talk), self.question()]).split("\n")
        parts = [line.split(": ", 1) for line in lines]
        return tuple({"role": SPEAKERS[speaker], "content": text} for speaker, text in parts)

    def question(self) -> str:
        """The last line that the user says."""
        return QUESTION.format(noun=self.facts[self.asked][0])

    def prefix(self) -> str:
        """The first words of the assistant's answer, the blank before them included. They are no part of the prompt: a chat
        template puts them behind the assistant's header, where a chat model goes on from them."""
        return ANSWER.format(noun=self.facts[self.asked][0])

    def position(self, talk: int) -> float:
        """Share of the exchanges, 0..1, that stand before the fact that is asked for."""
        noun, value = self.facts[self.asked]
        lines = self.exchanges(talk)
        return round(lines.index(FACT.format(noun=noun, value=value)) / len(lines), 4)


def draw(rng: Random, facts: int, talk: Sequence[str]) -> Dialogue:
    """Different nouns, different values; the small talk in a random order."""
    nouns, values = rng.sample(words.nouns(), facts), rng.sample(words.adjectives(), facts)
    asked, spots = rng.randrange(facts), tuple(sorted(rng.random() for _ in range(facts)))
    return Dialogue(tuple(zip(nouns, values, strict=True)), asked, spots, tuple(rng.sample(talk, len(talk))))
