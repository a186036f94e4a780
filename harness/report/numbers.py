"""Numbers as people read them, the same in the terminal, in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.statistics import FEW, NO_SPREAD, untold
from harness.contracts.metric import Metric
from harness.terminal.visible import line

Part = Mapping[str, Any] | None


def title(metric: Metric) -> str:
    """The metric's name with its unit."""
    return f"{line(metric.name, 60)} %" if metric.percent else line(metric.name, 60)


def shown(value: float, metric: Metric, sign: bool = False, digits: int = 2) -> str:
    """A value: percentages x100 with two decimals (one in an interval), others with four digits."""
    text = f"{100 * value:{'+' if sign else ''}.{digits}f}" if metric.percent else f"{value:{'+' if sign else ''}.4g}"
    return text if float(text) else text.lstrip("-")


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
    return bounds(part, metric, sign)


def bounds(part: Mapping[str, Any], metric: Metric, sign: bool = False) -> str:
    """`[low, high]` or why there is none."""
    if part.get("low") is None or part.get("high") is None:
        reason = part.get("reason")
        return f"[{reason if reason in (FEW, NO_SPREAD) else 'no interval'}]"
    return f"[{shown(part['low'], metric, sign, 1)}, {shown(part['high'], metric, sign, 1)}]"


def difference(part: Part, metric: Metric | None) -> str:
    """Method minus dense, `*` if the paired test says so, `?` if it cannot tell."""
    if not part or part.get("value") is None or metric is None:
        return "-"
    return shown(part["value"], metric, sign=True) + mark_of(part)


def mark_of(difference: Mapping[str, Any]) -> str:
    """` *` for a significant difference, ` ?` where there are too few clusters to tell."""
    return " *" if difference.get("significant") else (" ?" if untold(difference) == FEW else "")


def shares(a: float | None, b: float | None) -> tuple[str, ...]:
    """Two shares, or one if both read the same."""
    first, second = ("-" if x is None else f"{x:.2f}" for x in (a, b))
    return (first,) if first == second else (first, second)


def share(a: float | None, b: float | None) -> str:
    """Two shares as one text, `a / b` if they differ."""
    return " / ".join(shares(a, b))


def rate(value: float | None) -> str:
    """A measured time or speed, three digits of it; `-` for none."""
    return "-" if value is None else (f"{value:.0f}" if value >= 100 else f"{value:.3g}")


def speed(row: Mapping[str, Any], key: str, named: bool = False) -> str:
    """A measured number; a mask inside a dense kernel has no speed, and a processor's number says so. `named`: on which device."""
    found = row[key]
    if row["simulated"]:
        return "simulated"
    text = rate(found)
    if found is None:
        return text
    if row["device"] == "cpu":
        return f"{text} (cpu)"
    return f"{text} ({line(row['hardware'], 60)})" if named and row["hardware"] else text


def size(value: float | None) -> str:
    """Bytes in binary units.

    >>> size(1536), size(3 * 2**30)
    ('1.5 KiB', '3.0 GiB')
    """
    if value is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


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
