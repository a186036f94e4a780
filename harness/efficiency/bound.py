"""The share of what is physically possible: of a stored row and the peaks that were stored with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.efficiency.machine import Peaks

# time -> its operations and bytes
WORK = {"ttft_ms": ("flops_prefill", "bytes_prefill"), "decode_ms_per_token": ("flops_step", "bytes_step")}


def bounds(row: Mapping[str, Any], peaks: Mapping[str, Any]) -> dict[str, float]:
    """`bound_<time>` in milliseconds and `of_bound_<time>` (a share) for each time that the row holds."""
    found: dict[str, float] = {}
    for key, (flops, moved) in WORK.items():
        if key in row and row.get(flops) is not None:
            bound = Peaks(**peaks).bound(row[flops], row[moved]) * 1e3
            found |= {f"bound_{key}": bound, f"of_bound_{key}": bound / row[key]["median"]}
    return found


def points(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The points of a stored run, with bounds in their rows."""
    return [{**p, "rows": [{**row, **bounds(row, run["peaks"])} for row in p["rows"]]} for p in run["points"]]
