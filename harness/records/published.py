"""Published numbers beside measured ones: a suite may carry `published`, a table of what papers print for its protocol.

    published:
      source: Somebody et al., arXiv 2601.00001, table 1
      protocol: LLaVA-1.5-7B, 500 images, greedy, 512 new tokens
      gate: {untrue: 2.5}           # how far the base row may lie from the paper before any method is judged
      rows:
        dense: {captions: {untrue: 46.4, untrue_names: 12.1}}
        theirs: {captions: {untrue: 20.4, untrue_names: 6.9}}

Numbers are written as printed: percentages, and lengths in words. Rows whose method was not run are shown without a measured number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.config.compose import BASELINE
from harness.records.cells import CellRecord


def rows(published: Mapping[str, Any], cells: Sequence[CellRecord]) -> list[dict[str, Any]]:
    """One row per model, task, method and metric: `published`, `measured`, `low`, `high`, as printed."""
    out = []
    done = [c for c in cells if c.done]
    models = sorted({c.labels["model"] for c in done})
    for model in models or [""]:
        for method, tasks in published["rows"].items():
            for task, metrics in tasks.items():
                found = next((c for c in done if _is(c, model, method, task)), None)
                values = (found.metrics.get("values") if found is not None else None) or {}
                facts = (found.config.get("task_facts") or {}).get("metrics") or () if found is not None else ()
                plain = {m["name"] for m in facts if not m.get("percent", True)}
                for metric, number in metrics.items():
                    value = values.get(metric) or {}
                    factor = 1 if metric in plain else 100
                    scaled = {k: _times(value.get(k), factor) for k in ("value", "low", "high")}
                    out.append(
                        {"model": model, "task": task, "method": method, "metric": metric, "published": float(number),
                         "measured": scaled["value"], "low": scaled["low"], "high": scaled["high"]}
                    )  # fmt: skip
    return out


def _is(cell: CellRecord, model: str, method: str, task: str) -> bool:
    labels = cell.labels
    return labels["model"] == model and labels["method"] == method and labels["task"] == task


def _times(value: Any, factor: float) -> float | None:
    return None if value is None else factor * float(value)


def render(published: Mapping[str, Any], cells: Sequence[CellRecord], console: Console) -> None:
    """Print the table; say where numbers cannot be compared, and whether the base row is near the paper's."""
    found = rows(published, cells)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "task", "method", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("published", "measured", "difference"):
        table.add_column(name, justify="right")
    for row in found:
        measured, difference = "-", "-"
        if row["measured"] is not None:
            interval = f" [{row['low']:.1f}, {row['high']:.1f}]" if row["low"] is not None else ""
            measured, difference = f"{row['measured']:.1f}{interval}", f"{row['measured'] - row['published']:+.1f}"
        names = [Text(row[k]) for k in ("model", "task", "method", "metric")]
        table.add_row(*names, f"{row['published']:.1f}", measured, difference)
    console.print(Text(f"\nPublished and measured: {published['source']}", style="bold"))
    console.print(Text(f"Protocol: {published['protocol']}", style="dim"))
    console.print(table)
    if verdict := gate(published, found):
        console.print(Text(verdict, style="dim"))


def gate(published: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> str:
    """Whether the measured base row is near enough to the paper's for its methods to be judged at all."""
    limits = published.get("gate") or {}
    base = [r for r in found if r["method"] == BASELINE and r["metric"] in limits and r["measured"] is not None]
    far = [r for r in base if abs(r["measured"] - r["published"]) > limits[r["metric"]]]
    if not base:
        return "The base row was not run here (on this model), so no method can be judged against the paper."
    if far:
        named = ", ".join(f"{r['metric']} {r['measured'] - r['published']:+.1f}" for r in far)
        return f"The base row is not the paper's ({named}): the setting differs, so the rows below it say nothing about the paper."
    return "The base row lies within the stated tolerance of the paper's."
