"""Records as the report can use them, and what is wrong with those that it cannot.

A record was written by heed, but may have been edited, or be of another version: everything that the report does with one
is tried here, so that a malformed cell is named in its own line and hides no other.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.records.cells import CellRecord
from harness.records.files import finite
from harness.records.rows import rows_for_table
from harness.records.summarise import as_metric
from harness.report import figures
from harness.report.alarms import alarms
from harness.report.facts import facts
from harness.report.origins import Environments
from harness.visible import line

MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


def clean(cell: CellRecord) -> tuple[CellRecord, list[str]]:
    """The cell with strict numbers and the keys of those that were not finite. One that no table can show is damaged."""
    try:
        return _strict(cell)
    except MALFORMED as error:
        reason = cell.problem or (
            f"{cell.path} does not hold what this heed writes ({type(error).__name__}: {line(error, 120)}). Delete the folder "
            "and run the same command again."
        )
        return CellRecord(cell.run_id, cell.path, config=_labels_alone(cell), problem=reason), []


def _strict(cell: CellRecord) -> tuple[CellRecord, list[str]]:
    config, found = cell.config or _old_labels(cell), []
    parts: dict[str, dict[str, Any]] = {}
    for name in ("metrics", "efficiency", "provenance"):
        stored: dict[str, Any] = getattr(cell, name)
        found += [str(key) for key in stored.get("nonfinite") or ()]
        parts[name] = finite(stored, found)
    metrics, efficiency, provenance = parts.values()
    known = replace(cell, config=finite(config, []), metrics=metrics, efficiency=efficiency, provenance=provenance)
    _check(known)
    return known, sorted(set(found))


def _check(cell: CellRecord) -> None:
    """Raise what using the record would raise."""
    row = rows_for_table([cell])[0]
    if any(not isinstance(label, str) for label in cell.labels.values()):
        raise TypeError("labels are not texts")
    figures.share(row["density_prefill"], row["density_decode"])
    figures.share(row["kv_logical"], row["kv_physical"])
    [figures.speed(row, key) for key in ("ttft_ms", "decode_tokens_per_s")]
    figures.memory(row)
    alarms(row, cell.metrics, cell.config)
    json.dumps(facts(cell, row), allow_nan=False)
    Environments().of(cell, last=len(cell.provenance.get("sessions") or []))
    if row["status"] != "done":
        return
    for part in (cell.metrics["values"], *(group["values"] for group in cell.metrics["groups"])):
        for estimate in part.values():
            [float(estimate[key]) for key in ("value", "low", "high", "n") if estimate.get(key) is not None]
    for part in (cell.metrics["vs_dense"] or {}, *(group["vs_dense"] or {} for group in cell.metrics["groups"])):
        for change in part.values():
            [float(change[key]) for key in ("value", "low", "high", "p") if change.get(key) is not None]
            bool(change["significant"])
    if not isinstance(cell.metrics["n"], int) or not all(isinstance(g["by"], dict) for g in cell.metrics["groups"]):
        raise TypeError("n is no number, or a group has no keys")
    for metric in map(as_metric, (cell.config.get("task_facts") or {}).get("metrics") or []):
        figures.value(cell.metrics["values"].get(metric.name), metric)


def _old_labels(cell: CellRecord) -> dict[str, Any]:
    """The names in a config.json of another layout, so that the report can at least say whose it is."""
    try:
        stored = json.loads((Path(cell.path) / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    labels = stored.get("labels") if isinstance(stored, dict) else None
    return {"labels": labels} if isinstance(labels, dict) else {}


def _labels_alone(cell: CellRecord) -> dict[str, Any]:
    labels = cell.config.get("labels") if isinstance(cell.config, dict) else None
    known = ("model", "method", "task")
    if not isinstance(labels, dict) or not all(isinstance(labels.get(key), str) for key in known):
        return {}
    return {"labels": {key: labels[key] for key in known}}
