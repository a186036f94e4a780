"""The built-in word lists and essays, read lazily from the package's own text files.

Every list is sorted, lower case, one ordinary English word per entry, without duplicates. The lists are part of the
data identity of every task that draws from them: change them and :func:`digest` changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import resources


@cache
def _read(name: str) -> str:
    return resources.files("zoo.material.text").joinpath(name).read_text(encoding="utf-8")


def nouns() -> tuple[str, ...]:
    """More than 450 concrete nouns."""
    return tuple(_read("nouns.txt").split())


def adjectives() -> tuple[str, ...]:
    """More than 220 adjectives."""
    return tuple(_read("adjectives.txt").split())


def verbs() -> tuple[str, ...]:
    """More than 120 verbs in their plain form."""
    return tuple(_read("verbs.txt").split())


def essay() -> str:
    """A collection of short essays, about 3000 words, paragraphs separated by a blank line.

    It holds no digits and none of the phrases that the retrieval tasks hide, so it is safe as a haystack.
    """
    return _read("essay.txt").strip()


def smalltalk() -> tuple[str, ...]:
    """40 exchanges of small talk, each two lines: ``User: ...`` and ``Assistant: ...``. None states a favorite."""
    return tuple(_read("smalltalk.txt").strip().split("\n\n"))


def digest(*texts: str | Iterable[str]) -> str:
    """First 16 hex digits of the sha256 over the given texts or lists; over everything in this module by default.

    A list is hashed as its entries joined by newlines. Parts are separated by a zero byte, so moving a word from the
    end of one list to the start of the next gives another digest.
    """
    parts = texts or (nouns(), adjectives(), verbs(), essay(), smalltalk())
    rendered = (part if isinstance(part, str) else "\n".join(part) for part in parts)
    return hashlib.sha256("\0".join(rendered).encode("utf-8")).hexdigest()[:16]
