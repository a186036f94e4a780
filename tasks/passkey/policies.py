"""Three ways in which the literature reads a pass key out of an answer."""

from __future__ import annotations

import re
from collections.abc import Callable

LONGEST_INT = 4000  # int() refuses strings of more digits; no key is that long


def first_int(text: str, key: str) -> tuple[bool, str]:
    r"""Landmark: the first run of digits (`\d`, so other scripts count) equals the key as an integer."""
    found = re.search(r"\d+", text)
    run = found.group() if found else ""
    return 0 < len(run) <= LONGEST_INT and int(run) == int(key), run


def first_digits(text: str, key: str) -> tuple[bool, str]:
    """InfiniteBench: the first run of ASCII digits equals the key as a string."""
    found = re.search(r"[0-9]+", text)
    run = found.group() if found else ""
    return run == key, run


def contains(text: str, key: str) -> tuple[bool, str]:
    """RULER: the key occurs anywhere in the answer, inside a longer number too."""
    return key in text, key if key in text else first_digits(text, key)[1]


POLICIES: dict[str, Callable[[str, str], tuple[bool, str]]] = {
    "first_int": first_int,
    "first_digits": first_digits,
    "contains": contains,
}
