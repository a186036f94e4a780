"""`heed data`: the examples of a task as a file, in our own layout with the benchmark's official keys beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from harness.contracts.example import Example, Skipped
from harness.contracts.task import Task
from harness.contracts.tokens import Tokens
from harness.disk.output import write_rows
from harness.errors import UserError

CHOSEN = 500  # groups whose order is chosen; of more, the others follow as they stand
NAMED = 8  # groups that a message lists


def write_examples(
    task: Task, tokens: Tokens, out: Path, limit: int | None = None, too_long: Sequence[Skipped] = ()
) -> dict[str, Any]:
    """Write one line per example and return `{n, left_out, n_skipped, reasons, skipped, sha256}`.

    Skipped examples are counted by reason and listed by id; `too_long`: those that were left out before. A file without
    any example is not written: `UserError`.
    """
    task.validate()
    items = list(task.examples(tokens))
    examples = [item for item in items if isinstance(item, Example)]
    skipped = [*too_long, *(item for item in items if isinstance(item, Skipped))]
    if not examples:
        why = f" The first reason: {skipped[0].reason}." if skipped else ""
        raise UserError(f"The task has no example that fits these settings ({len(skipped)} skipped).{why}")
    missing = ""
    if limit is not None:
        examples = evenly(examples, task.by)
        missing = left_out(examples, task.by, limit)
        examples = examples[:limit]
    reasons = Counter(item.reason for item in skipped)
    return {
        "n": len(examples),
        "left_out": missing,
        "n_skipped": len(skipped),
        "reasons": dict(reasons),
        "skipped": [{"id": item.id, "reason": item.reason} for item in skipped],
        "sha256": write_rows(out, _rows(task, examples)),
    }


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


def _rows(task: Task, examples: list[Example]) -> Iterator[dict[str, Any]]:
    """The official layout may name a key as ours does; then it is the official value that stands in the file."""
    for example in examples:
        yield {**example.to_row(), **task.official_row(example)}
