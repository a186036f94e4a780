"""Which examples a limit takes, and which groups of them it leaves without any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from harness.contracts.example import Example

CHOSEN = 500  # groups whose order is chosen; of more, the others follow as they stand
NAMED = 8  # groups that a message lists


def evenly(examples: list[Example], by: Sequence[str]) -> list[Example]:
    """Examples taken in turn from each group (a value of every key: length, depth, ...), so that any `limit` covers what it can.

    The next group is always the one whose values were taken least so far: where a limit is smaller than the number of
    groups, every length, depth and sub-task still has its share of it.
    """
    groups: dict[tuple[Any, ...], list[Example]] = {}
    for e in examples:
        groups.setdefault(tuple(e.meta.get(k) for k in by), []).append(e)
    taken: Counter[tuple[int, Any]] = Counter()
    left = list(groups)
    order: list[tuple[Any, ...]] = []
    while left and len(order) < CHOSEN:
        group = min(left, key=lambda values: sum(taken[pair] for pair in enumerate(values)))
        left.remove(group)
        order.append(group)
        taken.update(enumerate(group))
    return [e for turn in zip_longest(*(groups[group] for group in [*order, *left])) for e in turn if e is not None]


def left_out(examples: Sequence[Example], by: Sequence[str], limit: int | None) -> str:
    """Which groups have no sample among the first `limit` examples (of `evenly`): `task vt, qa_2; length 1024`; empty if all do."""
    missing = []
    for key in by:
        had = dict.fromkeys(e.meta.get(key) for e in examples[:limit])
        values = [str(v) for v in dict.fromkeys(e.meta.get(key) for e in examples) if v not in had]
        if values:
            more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
            missing.append(f"{key} {', '.join(values[:NAMED])}{more}")
    return "; ".join(missing)


def limited(examples: list[Example], by: Sequence[str], limit: int | None) -> tuple[list[Example], str]:
    """The examples that a limit takes, and which groups it leaves without any (see `left_out`)."""
    ordered = evenly(examples, by)
    return ordered[:limit], left_out(ordered, by, limit)
