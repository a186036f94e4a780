"""Two tokenizers without files for the tests of tasks: bytes, and words with their leading space."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from harness.contracts.tokens import Prompt


@dataclass
class ByteTokens:
    """One token per UTF-8 byte, `bos` before every prompt. Messages become lines `role: content`."""

    name: str = "toy-bytes"
    digest: str = "0" * 64
    bos: tuple[int, ...] = (256,)
    template: str = "none"
    date: str | None = None
    max_positions: int | None = None

    @property
    def start_ids(self) -> tuple[int, ...]:
        return self.bos

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def count(self, text: str) -> int:
        return len(self.encode(text))

    def prompt_ids(self, prompt: Prompt, answer_prefix: str = "") -> list[int]:
        return [*self.bos, *self.encode(rendered(prompt) + answer_prefix)]


@dataclass
class WordTokens(ByteTokens):
    """One token per word (with its leading space), punctuation mark or newline; ids in order of first sight."""

    name: str = "toy-words"
    digest: str = "1" * 64
    bos: tuple[int, ...] = ()
    vocabulary: dict[str, int] = field(default_factory=dict)

    def encode(self, text: str) -> list[int]:
        return [self.vocabulary.setdefault(w, len(self.vocabulary)) for w in re.findall(r" ?\w+| ?[^\w\s]|\s", text)]


def rendered(prompt: Prompt) -> str:
    """The prompt as one text."""
    if isinstance(prompt, str):
        return prompt
    return "".join(f"{m['role']}: {m['content']}\n" for m in prompt) + "assistant: "
