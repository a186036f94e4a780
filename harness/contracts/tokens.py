"""What a task may ask of a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

Prompt = str | tuple[Mapping[str, str], ...]  # plain text, or chat messages {"role", "content"}


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
    def template(self) -> str:
        """How prompts are rendered: `chat`, by the tokenizer's chat template, or `none`."""
        ...

    @property
    def date(self) -> str | None:
        """The day that the chat template writes into prompts; None where it writes none."""
        ...

    @property
    def max_positions(self) -> int | None:
        """Most tokens that the model behind it can read; None: not known."""
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
