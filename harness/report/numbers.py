"""Numbers as people read them, the same in Markdown and HTML as in the terminal's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.contracts.metric import Metric
from harness.report import terminal
from harness.report.terminal import shown, size
from harness.terminal.visible import line

Part = Mapping[str, Any] | None


def title(metric: Metric) -> str:
    """The metric's name with its unit."""
    return f"{line(metric.name, 60)} %" if metric.percent else line(metric.name, 60)


def value(part: Part, metric: Metric | None) -> str:
    """A mean with what is missing from it; `-` for none."""
    if not part or part.get("value") is None or metric is None:
        return "-"
    missing = f" ({part['n_missing']} missing)" if part.get("n_missing") else ""
    return shown(part["value"], metric) + missing


def interval(part: Part, metric: Metric | None, sign: bool = False) -> str:
    """`[low, high]` or why there is none; empty where there is no value at all."""
    if not part or part.get("value") is None or metric is None:
        return ""
    return terminal.interval(part, metric, sign)


def difference(part: Part, metric: Metric | None) -> str:
    """Method minus dense, `*` if the paired test says so, `?` if it cannot tell."""
    if not part or part.get("value") is None or metric is None:
        return "-"
    return shown(part["value"], metric, sign=True) + terminal.mark_of(part)


def share(a: float | None, b: float | None) -> str:
    """Two shares as one text, `a / b` if they differ."""
    first, second = ("-" if x is None else f"{x:.2f}" for x in (a, b))
    return first if first == second else f"{first} / {second}"


def speed(row: Mapping[str, Any], key: str, named: bool = False) -> str:
    """A measured number; a mask inside a dense kernel has no speed, and a processor's number says so. `named`: on which device."""
    found = row[key]
    if row["simulated"]:
        return "simulated"
    if found is None:
        return "-"
    text = f"{found:.0f}" if found >= 100 else f"{found:.3g}"
    if row["device"] == "cpu":
        return f"{text} (cpu)"
    return f"{text} ({line(row['hardware'], 60)})" if named and row["hardware"] else text


def memory(row: Mapping[str, Any]) -> str:
    """Peak memory and what it is the peak of."""
    kind = f" ({line(row['memory_kind'], 40)})" if row["memory_kind"] else ""
    return size(row["peak_memory_bytes"]) + (kind if row["peak_memory_bytes"] is not None else "")


def count(row: Mapping[str, Any]) -> str:
    """Examples, and how many could not be built."""
    n = "-" if row["n"] is None else str(row["n"])
    return f"{n} (+{row['skipped']} skipped)" if row["skipped"] else n


def idle(row: Mapping[str, Any]) -> str:
    """How many samples the method could not act on, which stands beside the value: they count in it."""
    return f"{row['idle']} of {row['n']} samples equal dense" if row["idle"] else ""


def companions(metrics: list[Metric], measured: Mapping[str, Any]) -> str:
    """`recall 55.21 %, length 31.2`: what must stand beside the headline."""
    values = measured.get("values") or {}
    parts = [(m, (values.get(m.name) or {}).get("value")) for m in metrics]
    return ", ".join(f"{line(m.name, 40)} {shown(v, m)}{' %' if m.percent else ''}" for m, v in parts if v is not None)
