"""What is stored of one cell besides its headline: what the drill-down lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.records.cells import CellRecord
from harness.terminal.visible import line

SHOWN = ("budget", "needs", "paper", "question")  # facts of a method that people read
REASON = 1_500  # characters
SPEEDS = ("ttft_ms", "decode_ms_per_token", "decode_tokens_per_s")


def short(number: float | None) -> float | None:
    """Five significant digits."""
    return None if number is None else float(f"{number:.5g}")


def facts(cell: CellRecord, row: Mapping[str, Any]) -> dict[str, Any]:
    """`reason method params usage flags efficiency paired`, in plain JSON and harmless texts."""
    known = cell.config.get("method_facts") or {}
    return {
        "reason": line(row["reason"], REASON),
        "method": {k: line(known[k], 200) for k in SHOWN if known.get(k)},
        "params": _chosen(cell.config.get("identity")),
        "usage": {
            line(k, 60): short(v) for k, v in (cell.metrics.get("usage") or {}).items() if isinstance(v, int | float)
        },
        "flags": {line(k, 60): short(v) for k, v in (cell.metrics.get("flags") or {}).items()},
        "efficiency": _efficiency(cell.efficiency, bool(row["simulated"])),
        "paired": short(cell.metrics.get("n_paired")),
    }


def _chosen(identity: Any) -> dict[str, str]:
    """The parameters that people chose; digests are in the run id."""
    if not isinstance(identity, Mapping):
        return {}
    parts = {"method": _params(identity, "method"), "task": _params(identity, "task")}
    parts |= {k: identity.get(k) for k in ("limit", "seed", "decoding") if identity.get(k) is not None}
    return {name: line(json.dumps(v, ensure_ascii=False, default=str), 500) for name, v in parts.items() if v}


def _params(identity: Mapping[str, Any], part: str) -> Any:
    return identity[part].get("params") if isinstance(identity.get(part), Mapping) else None


def _efficiency(stored: Mapping[str, Any], simulated: bool) -> dict[str, str]:
    """Numbers with their quantiles; a simulated method's times are not told."""
    out = {}
    for key, value in stored.items():
        if simulated and key in SPEEDS:
            out[line(key, 60)] = "simulated"
        elif isinstance(value, Mapping) and "median" in value:
            low, high = (_text(value.get(k)) for k in ("q20", "q80"))
            text = f"{_text(value['median'])} [{low}, {high}] (median, 20 and 80 %, n={value.get('n')})"
            out[line(key, 60)] = line(text, 200)
        elif isinstance(value, str | int | float) and value != "" and key != "simulated":
            out[line(key, 60)] = line(_text(value), 200)
    return out


def _text(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else "-" if value is None else str(value)
