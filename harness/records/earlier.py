"""Configs of earlier versions, completed when a cell is read: facts that tables and alarms ask for and that were not stored then.

Here alone they are told from names and from English, by the rules that those versions followed. What is written today states them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

COMPANIONS = ("recall", "length")  # of a headline where lower is better
YES_NO = {"accuracy", "yes_ratio"}  # metrics of a task with two answers
UNREADABLE = ("unknown", "unparsed", "empty")
# how the unit of a budget began where keys are left out
LEAVES_OUT = re.compile(r"(tokens|blocks|pages|keys|share of the (keys|tokens|blocks|pages|cache|prompt))\b")


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A checked config.json with the facts of today; those that it states stay."""
    full = dict(config)
    if task := config.get("task_facts"):
        full["task_facts"] = _task(task)
    if method := config.get("method_facts"):
        full["method_facts"] = {"leaves_out": bool(LEAVES_OUT.match(method.get("budget") or ""))} | method
    return full


def _task(facts: Mapping[str, Any]) -> dict[str, Any]:
    metrics = list(facts.get("metrics") or ())
    yes_no = {metric["name"] for metric in metrics} >= YES_NO
    lower = bool(metrics) and not metrics[0].get("higher_is_better", True)
    companions = [{"companion": lower and i > 0 and m["name"] in COMPANIONS} | m for i, m in enumerate(metrics)]
    if "unreadable" in facts:
        return dict(facts) | {"metrics": companions}
    chance = ({"accuracy": 0.5} if yes_no else {}) | (facts.get("chance") or {})
    return dict(facts) | {"metrics": companions, "chance": chance, "unreadable": list(UNREADABLE)}
