"""Which methods no other beats in both accuracy and cost. Only what was measured alike is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Axis:
    """A cost. `measured`: it depends on the machine, so rows are compared within one `place` only."""

    key: str
    title: str
    lower_is_better: bool = True
    measured: bool = False


AXES = (
    Axis("density_decode", "density, decode"),
    Axis("density_prefill", "density, prefill"),
    Axis("kv_logical", "KV bytes against dense, logical"),
    Axis("kv_physical", "KV bytes against dense, allocated"),
    Axis("ttft_ms", "time to first token, ms", measured=True),
    Axis("decode_tokens_per_s", "decode, tokens per second", lower_is_better=False, measured=True),
    Axis("peak_memory_bytes", "peak memory, bytes", measured=True),
)


def axis(key: str) -> Axis:
    """The axis of that key."""
    return next(one for one in AXES if one.key == key)


def place(row: Mapping[str, Any]) -> str:
    """What two speeds must share to be compared: the machine and the length of the prompt."""
    parts = [row["hardware"] or row["device"], f"{row['prompt_tokens']} prompt tokens" if row["prompt_tokens"] else ""]
    return ", ".join(str(part) for part in (*parts, row["memory_kind"]) if part) or "hardware unknown"


def cost(row: Mapping[str, Any], of: Axis) -> float | None:
    """The row's cost on an axis, or None: unknown, or a machine's number for a method that is only simulated."""
    return None if of.measured and row["simulated"] else row[of.key]


def front(points: Sequence[tuple[float, float]], low_x: bool, high_y: bool) -> list[int]:
    """Indices of the points that no other point equals or beats in both coordinates and beats in one, by x.

    >>> front([(1.0, 0.9), (0.5, 0.9), (0.2, 0.4), (0.3, 0.3)], low_x=True, high_y=True)
    [2, 1]
    """
    signed = [(x if low_x else -x, -y if high_y else y) for x, y in points]
    order = sorted(range(len(points)), key=lambda i: signed[i])
    kept: list[int] = []
    best = float("inf")
    for i in order:
        equal = bool(kept) and signed[kept[-1]] == signed[i]
        if signed[i][1] < best or equal:
            kept.append(i)
            best = signed[i][1]
    return kept


def fronts(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """axis -> place (empty for costs that no machine changes) -> indices into `rows` of the Pareto front, by cost."""
    out: dict[str, dict[str, list[int]]] = {}
    for one in AXES:
        places: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            if row["status"] == "done" and _value(row) is not None and cost(row, one) is not None:
                places.setdefault(place(row) if one.measured else "", []).append(i)
        for name, members in places.items():
            points = [(float(cost(rows[i], one) or 0.0), float(_value(rows[i]) or 0.0)) for i in members]
            high = rows[members[0]]["metric"].higher_is_better
            out.setdefault(one.key, {})[name] = [members[k] for k in front(points, one.lower_is_better, high)]
    return out


def _value(row: Mapping[str, Any]) -> float | None:
    return (row["estimate"] or {}).get("value") if row["metric"] else None
