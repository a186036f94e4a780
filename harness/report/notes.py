"""What sets settings apart, in words: `lengths 256, 512; 10 samples` where two protocols share a model and a task.

Digests (of data, sources, weights) are named by their first digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.records.differing import differing
from harness.terminal.visible import line

SHOWN = 3  # values that a note has room for
CHOSEN = ("task.params.", "method.params.", "limit", "decoding.")  # what people set themselves comes first
DERIVED = ("task.provenance.", "task.data")  # follows from what was chosen, and is told where nothing else differs
DIGEST = re.compile(r"[0-9a-f]{16,64}")


def notes(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each of several settings the values in which they differ, a few at most; nothing for one alone.

    >>> notes([{"limit": None, "task": {"params": {"lengths": [256, 512]}}}, {"limit": 5, "task": {"params": {"lengths": [512]}}}])
    ['lengths 256, 512; all samples', 'lengths 512; 5 samples']
    """
    found = {key for other in settings[1:] for key in differing(settings[0], other)}
    keys = sorted({key for key in found if not key.startswith(DERIVED)} or found, key=lambda key: (_rank(key), key))
    n = len(keys) - SHOWN
    more = [f"{n} other setting{'s' * (n > 1)}"] if n > 0 else []
    return ["; ".join([*(_words(key, _at(s, key)) for key in keys[:SHOWN]), *more]) for s in settings]


def _rank(key: str) -> int:
    return next((i for i, prefix in enumerate(CHOSEN) if key.startswith(prefix)), len(CHOSEN))


def _words(key: str, value: Any) -> str:
    if key == "limit":
        return "all samples" if value is None else f"{line(value, 20)} samples"
    name = key.removeprefix("task.params.").removeprefix("method.params.").replace(".", " ").replace("_", " ")
    return f"{line(name, 60)} {_value(value)}"


def _value(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:8] if DIGEST.fullmatch(text) else line(text, 40)


def _at(nested: Any, key: str) -> Any:
    """The value at a dotted key whose parts may hold dots themselves."""
    if not key:
        return nested
    if not isinstance(nested, Mapping):
        return None
    name = max((k for k in nested if f"{key}.".startswith(f"{k}.")), key=len, default=None)
    return None if name is None else _at(nested[name], key[len(name) + 1 :])
