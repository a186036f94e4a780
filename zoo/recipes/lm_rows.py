"""An example as text with its parts, and as a row of tokens with the weight that each has in the loss.

Text is tokenised piece by piece, which is the same as tokenising the whole: the tokenizer cuts at every newline, and between a
full stop and the space behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["context", "prefix", "answer"]


@dataclass(frozen=True)
class Part:
    """A stretch of text and the role it plays in the loss."""

    text: str
    kind: Kind = "context"


@dataclass(frozen=True)
class Row:
    """Token ids with one loss weight per token (the weight of *predicting* that token)."""

    ids: list[int]
    weights: list[float]


@dataclass
class Encoder:
    """Tokenises piece by piece with a memory, because filler sentences come back all the time."""

    tokenizer: Any
    prefix_weight: float = 0.3
    first_weight: float = 3.0
    rest_weight: float = 1.0
    _memory: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bos, self.eos, self.pad = (getattr(self.tokenizer, f"{n}_token_id") for n in ("bos", "eos", "pad"))
        self.space = self.encode(" ")[0]

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids without the start token."""
        known = self._memory.get(text)
        if known is None:
            known = tuple(self.tokenizer.encode(text, add_special_tokens=False))
            if len(self._memory) < 50_000:
                self._memory[text] = known
        return known

    def count(self, text: str) -> int:
        return len(self.encode(text))

    def row(self, parts: Sequence[Part]) -> Row:
        """Start token, all parts, end token. The first chunk of every answer word carries the matching signal."""
        ids, weights = [self.bos], [0.0]
        for part in parts:
            for token in self.encode(part.text):
                fresh = part.kind == "answer" and (ids[-1] == self.space or weights[-1] in (0.0, self.prefix_weight))
                weight = {"context": 0.0, "prefix": self.prefix_weight, "answer": self.rest_weight}[part.kind]
                if part.kind == "answer" and token == self.space:
                    weight = self.prefix_weight
                ids.append(token)
                weights.append(self.first_weight if fresh and token != self.space else weight)
        return Row([*ids, self.eos], [*weights, self.rest_weight if parts[-1].kind == "answer" else 0.0])


def cost(enc: Encoder, parts: Sequence[Part]) -> int:
    """Tokens of the fixed parts, start token, end token and one joint included."""
    return 3 + sum(enc.count(part.text) for part in parts)
