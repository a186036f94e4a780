"""What needles are hidden in, and what they are made of: sentences without end, keys and values, drawn at random.

Contexts are filled up to a length in tokens: whole filler sentences, needles at uniformly drawn sentence boundaries.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Literal

from zoo.material.text import words
from zoo.recipes.lm_rows import Encoder
from zoo.recipes.lm_wording import NIAH_NEEDLE, NOISE

VALIDATION_SHARE = 0.15  # the last part of the essays is never learned as text (`lm_tasks.plain`)
Haystack = Literal["noise", "essay", "needle"]


@lru_cache(maxsize=1)
def essay_sentences() -> tuple[str, ...]:
    """The essays, one sentence per entry, whitespace collapsed."""
    return tuple(re.split(r"(?<=[.?!]) ", " ".join(words.essay().split())))


def learned_sentences() -> int:
    """How many of the essay sentences may be learned as text; the rest is for validation."""
    return int(len(essay_sentences()) * (1 - VALIDATION_SHARE))


def sentences(rng: random.Random, haystack: Haystack, kind: str = "numbers", key_kind: str = "words") -> Iterator[str]:
    """An endless stream of filler sentences; in a needle haystack each is a needle with a fresh key and value."""
    if haystack == "essay":
        text, at = essay_sentences(), rng.randrange(len(essay_sentences()))
        while True:
            yield text[at % len(text)]
            at += 1
    while haystack == "noise":
        yield NOISE
    while True:
        yield NIAH_NEEDLE.format(kind=kind, key=new_key(rng, key_kind), value=new_value(rng, kind))


def word_key(rng: random.Random) -> str:
    return f"{rng.choice(words.adjectives())}-{rng.choice(words.nouns())}"


def new_key(rng: random.Random, key_kind: str = "words") -> str:
    return word_key(rng) if key_kind == "words" else new_uuid(rng)


def new_uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def new_value(rng: random.Random, kind: str = "numbers") -> str:
    return str(rng.randint(1_000_000, 9_999_999)) if kind == "numbers" else new_uuid(rng)


def distinct(rng: random.Random, draw: Callable[[random.Random], str], count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(draw(rng))
    return list(found)


def fill(
    rng: random.Random, enc: Encoder, needles: Sequence[str], stream: Iterator[str], joiner: str, room: int
) -> str:
    """Needles, in the given order, at drawn boundaries of as much filler as fits into ``room`` tokens."""
    used = sum(enc.count(joiner + needle) for needle in needles)
    filler: list[str] = []
    for sentence in stream:
        used += enc.count(joiner + sentence)
        if used > room:
            break
        filler.append(sentence)
    spots = sorted(rng.randint(0, len(filler)) for _ in needles)
    for spot, needle in reversed(list(zip(spots, needles, strict=True))):
        filler.insert(spot, needle)
    return joiner.join(filler)
