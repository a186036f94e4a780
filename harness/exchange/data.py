"""`heed data`: the examples of a task as a file, in our own layout with the benchmark's official keys beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.contracts.example import Example, Skipped
from harness.contracts.task import Task
from harness.contracts.tokens import Tokens
from harness.disk.output import write_rows
from harness.errors import UserError
from harness.plan.limit import limited


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
        examples, missing = limited(examples, task.by, limit)
    reasons = Counter(item.reason for item in skipped)
    return {
        "n": len(examples),
        "left_out": missing,
        "n_skipped": len(skipped),
        "reasons": dict(reasons),
        "skipped": [{"id": item.id, "reason": item.reason} for item in skipped],
        "sha256": write_rows(out, _rows(task, examples)),
    }


def _rows(task: Task, examples: list[Example]) -> Iterator[dict[str, Any]]:
    """The official layout may name a key as ours does; then it is the official value that stands in the file."""
    for example in examples:
        yield {**example.to_row(), **task.official_row(example)}
