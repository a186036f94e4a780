"""Published figures of the methods on the board, kept apart from what was measured, which stands beside them where it exists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harness.claims import published
from harness.errors import UserError
from harness.report import numbers
from harness.report.board import Block, Board
from harness.report.line import Line
from harness.terminal.visible import line

COLUMNS = ("method", "task", "metric", "value", "measured", "model", "protocol", "source")
SHOWN = 4  # measured cells beside one published number
NAME = re.compile(r"[A-Za-z0-9_]{1,80}")  # a label becomes a file's name


def papers(board: Board) -> tuple[list[dict[str, str]], list[str]]:
    """Rows with `COLUMNS`, as texts, and what could not be read. Only methods that have a finished cell."""
    done = [(block, one) for block in board.blocks for one in block.lines if one.row["status"] == "done"]
    rows, wrong = [], []
    for method in dict.fromkeys(one.row["method"] for _, one in done):
        try:
            found = published(method) if NAME.fullmatch(method) else []
        except UserError as error:
            wrong.append(f"Published figures of {line(method, 80)} are left out: {line(error)}")
            continue
        rows += [_row(method, entry, done) for entry in found]
    return rows, wrong


def _row(method: str, entry: dict[str, Any], done: Sequence[tuple[Block, Line]]) -> dict[str, str]:
    setting = f", {entry['setting']}" if entry["setting"] else ""
    read = "" if entry["read"] == "paper" else f" ({entry['read']})"
    found = {
        "method": method,
        "task": entry["task"],
        "metric": f"{entry['metric']}{setting}",
        "value": f"{entry['value']:g} ({entry['unit']})",
        "measured": "" if setting else _measured(method, entry["task"], entry["metric"], done),
        "model": entry["model"],
        "protocol": entry["protocol"],
        "source": ", ".join(part for part in (entry["paper"], entry["table"]) if part) + read,
    }
    return {key: line(value, 300) or "-" for key, value in found.items()}


def _measured(method: str, task: str, name: str, done: Sequence[tuple[Block, Line]]) -> str:
    """`micro-lm 30.00 [6.7, 65.2]` for the cells of this method and task."""
    texts = []
    for block, one in done:
        metric = next((m for m in block.metrics if m.name == name), None)
        part = (one.cell.metrics.get("values") or {}).get(name)
        if metric and part and (one.row["method"], one.row["task"]) == (method, task):
            texts.append(f"{line(block.model, 60)} {numbers.value(part, metric)} {numbers.interval(part, metric)}")
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more
