"""Published figures of a method: from `configs/claim/<method>.yaml`, and from the tables that suites carry.

In a claim file a row of a paper's table is written once, numbers as printed:

    published:
      - paper: "2601.00001"
        table: captions, nucleus
        model: LLaVA-1.5-7B
        protocol: 500 images, p = 0.9, 512 new tokens
        task: captions
        unit: percent
        read: paper              # paper | quoted (in somebody else's text) | abstract | release (its repository)
        values: {untrue: 24.0, untrue_names: 8.2}      # metric: number, or metric: {setting: number}

What a suite prints beside its own results stands in the suite (`published:`) and nowhere else; it is read from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.claims.claim_files import FOLDER, read
from harness.claims.suites import suite_table
from harness.config import compose

UNITS = {"length": "words"}  # whatever stands beside it
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{5})")


def published(method: str) -> list[dict[str, Any]]:
    """Figures of `method`, one dictionary per number: `paper` (arXiv id) `table` `model` `protocol` `task` `metric`
    `setting` (of the number within its row; mostly empty) `value` (as printed) `unit` `read` `suite` (name or "").
    """
    return [dict(row) for row in _all(method, FOLDER, compose.CONFIGS / "suite")]


@cache
def _all(method: str, claims: Path, suites: Path) -> tuple[dict[str, Any], ...]:
    file = claims / f"{method}.yaml"
    own = read(file).get("published") or () if file.exists() else ()
    return (*(row for entry in own for row in rows_of(entry)), *of_suites(method, suites))


def rows_of(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The numbers of one entry of `published:`."""
    common = {k: entry[k] for k in ("paper", "table", "model", "protocol", "task")}
    for metric, given in entry["values"].items():
        for setting, value in (given if isinstance(given, Mapping) else {"": given}).items():
            yield common | {
                "metric": metric, "setting": str(setting), "value": float(value),
                "unit": UNITS.get(metric, entry["unit"]), "read": entry["read"], "suite": "",
            }  # fmt: skip


def of_suites(method: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of `method` in the tables of all suites. A suite's protocol begins with the paper's name of the model."""
    for file in sorted(folder.glob("*.yaml")):
        table = suite_table(file)
        for task, metrics in (table.get("rows") or {}).get(method, {}).items():
            model, _, protocol = str(table["protocol"]).partition(", ")
            found = _ARXIV.findall(table["source"])
            for metric, value in metrics.items():
                yield {
                    "paper": found[0] if found else "", "table": table["source"], "model": model,
                    "protocol": protocol, "task": task, "metric": metric, "setting": "", "value": float(value),
                    "unit": UNITS.get(metric, "percent"), "read": "paper", "suite": file.stem,
                }  # fmt: skip
