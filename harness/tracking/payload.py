"""What a tracker is told about a cell: a pure function of its records, in plain JSON types."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from harness.analysis.board_rows import number
from harness.records.cells import CellRecord
from harness.records.tables import ROWS, concluded, is_probe, seen, title

MOST = 10_000  # rows of a table, which is what the tracker shows
PICTURES = (".png", ".jpg", ".jpeg")
SPEEDS = ("ttft_ms", "decode_ms_per_token", "decode_tokens_per_s")
MEASURED = (*SPEEDS, "peak_memory_bytes", "kv_bytes_logical", "kv_bytes_physical")


def payload(cell: CellRecord) -> dict[str, Any]:
    """Keys: `id name config summary columns rows tables images`. The same records always give the same payload."""
    labels = cell.labels
    columns, rows = breakdown(cell)
    return {
        "id": cell.run_id,
        "name": "/".join(str(labels.get(key, "?")) for key in ("model", "method", "task")),
        "config": {**labels, **cell.config, "hardware": cell.efficiency.get("hardware") or {}},
        "summary": summary(cell),
        "columns": columns,
        "rows": rows,
        "tables": tables(cell),
        "images": [str(path) for path in cell.figures if path.suffix.lower() in PICTURES],
    }


def tables(cell: CellRecord) -> dict[str, dict[str, Any]]:
    """What a probe concluded, and the rows of its examples (the first `MOST`): name -> columns and rows."""
    if not is_probe(cell):
        return {}
    found = {**concluded(cell.path), ROWS: seen(cell)}
    return {
        name: {"columns": [title(column) for column in table.columns], "rows": [list(row) for row in table.rows[:MOST]]}
        for name, table in found.items()
    }


def digest(content: Mapping[str, Any]) -> str:
    """Tells whether a cell changed since it was written: sha256 of the payload, of pictures the name alone."""
    names = [image.rpartition("/")[2] for image in content["images"]]
    return hashlib.sha256(json.dumps({**content, "images": names}, sort_keys=True).encode()).hexdigest()


def summary(cell: CellRecord) -> dict[str, Any]:
    """Flat numbers: metrics with intervals and differences to dense, n, usage, flags, speed, memory; no None."""
    metrics = cell.metrics
    found: dict[str, Any] = {"n": metrics.get("n"), "n_skipped": metrics.get("n_skipped")}
    for name, estimate in (metrics.get("values") or {}).items():
        found |= {name: estimate.get("value")} | _keys(name, estimate, ("low", "high"))
    for name, difference in (metrics.get("vs_dense") or {}).items():
        found |= _keys(f"vs_dense/{name}", difference, ("value", "low", "high", "p", "significant"))
    for part in ("usage", "flags"):
        found |= {f"{part}/{key}": value for key, value in (metrics.get(part) or {}).items()}
    simulated = bool(cell.efficiency.get("simulated"))
    for key in MEASURED:
        if not (simulated and key in SPEEDS):  # the time of a mask inside a dense kernel is no result
            found[key] = number(cell.efficiency.get(key))
    found["simulated"] = simulated if cell.efficiency else None
    return {key: value for key, value in found.items() if value is not None}


def _keys(name: str, values: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {f"{name}/{key}": values.get(key) for key in keys}


def breakdown(cell: CellRecord) -> tuple[list[str], list[list[Any]]]:
    """The groups as a table: one row per group and metric; a key by which a group is not split is empty."""
    groups = cell.metrics.get("groups") or []
    keys = sorted({key for group in groups for key in group["by"]})
    columns = [*keys, "metric", "n", "value", "low", "high", "vs_dense", "vs_dense_low", "vs_dense_high", "p"]
    rows = []
    for group in groups:
        for name, estimate in group["values"].items():
            difference = (group.get("vs_dense") or {}).get(name) or {}
            by = [None if group["by"].get(key) is None else str(group["by"][key]) for key in keys]
            values = [estimate.get(key) for key in ("n", "value", "low", "high")]
            rows.append([*by, name, *values, *(difference.get(key) for key in ("value", "low", "high", "p"))])
    return columns, rows
