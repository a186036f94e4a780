"""From sample rows to metrics.json: values with intervals, differences to dense, breakdown, usage, flags.

A pure function: the same rows give the same content in any order, so it can be computed again from stored samples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.analysis.statistics import aggregate, groups, paired
from harness.contracts.metric import Metric, as_metric

Row = Mapping[str, Any]
FLOOR = 0.005  # share of the (step, layer) calls that a method must change to be called active: one in two hundred


def summarise(
    task_facts: Mapping[str, Any],
    sample_rows: Sequence[Row],
    dense_rows: Sequence[Row] | None = None,
    n_skipped: int = 0,
) -> dict[str, Any]:
    """The content of metrics.json.

    `task_facts`: {"metrics": [Metric as a dict, ...], "by": [key, ...]}. `dense_rows`: samples of the baseline in any
    order; compared are the ids that both have. None: this cell is the baseline, or there is none. Keys of the result:
    `n`, `n_skipped`, `n_idle` (samples that the method could not act on, so that they are dense's; they count), `n_paired`,
    `values`, `vs_dense`, `groups` (each with its own `n` and `n_idle`), `usage` (mean per key over the rows that report it),
    `acted` (see there), `flags` (counts), `failure` (None).
    """
    metrics = [as_metric(m) for m in task_facts["metrics"]]
    rows = sorted(sample_rows, key=lambda row: row["id"])
    dense = {row["id"]: row for row in dense_rows} if dense_rows is not None else None
    by_group = groups(rows, task_facts.get("by", ()))
    return {
        "n": len(rows),
        "n_skipped": n_skipped,
        "n_idle": _idle(rows),
        "n_paired": None if dense is None else sum(row["id"] in dense for row in rows),
        **_part(metrics, rows, dense),
        "groups": [
            {"by": key, "n": len(part), "n_idle": _idle(part), **_part(metrics, part, dense)}
            for key, part in ((key, [rows[i] for i in indices]) for key, indices in by_group)
        ],
        "usage": usage(rows),
        "acted": acted(rows),
        "flags": dict(sorted(Counter(flag for row in rows for flag in row.get("flags", ())).items())),
        "failure": None,
    }


def _idle(rows: Sequence[Row]) -> int:
    return sum(bool(row.get("idle")) for row in rows)


def _part(metrics: list[Metric], rows: Sequence[Row], dense: Mapping[str, Row] | None) -> dict[str, Any]:
    clusters = [row.get("cluster", "") for row in rows]
    values = {m.name: asdict(aggregate(m, [row["metrics"] for row in rows], clusters)) for m in metrics}
    if dense is None:
        return {"values": values, "vs_dense": None}
    pairs = [(row, dense[row["id"]]) for row in rows if row["id"] in dense]
    ours, theirs = [a["metrics"] for a, _ in pairs], [b["metrics"] for _, b in pairs]
    clusters = [a.get("cluster", "") for a, _ in pairs]
    return {"values": values, "vs_dense": {m.name: asdict(paired(m, ours, theirs, clusters)) for m in metrics}}


def usage(rows: Sequence[Row]) -> dict[str, float]:
    """Mean of every number that the rows report under `usage` (density, bytes, ...)."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for key, value in (row.get("usage") or {}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(key, []).append(float(value))
    return {key: math.fsum(found[key]) / len(found[key]) for key in sorted(found)}


def acted(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Where the method was seen to differ from dense: `phases` (in any sample), `layers_dense` (never, in no sample), `changed`
    (mean share of the layer calls), `inactive` (less than `FLOOR` of them). None where nothing was counted.
    """
    counted = [row["usage"] for row in rows if (row.get("usage") or {}).get("changed") is not None]
    if not counted:
        return None
    found = {phase for one in counted for phase in one["phases"]}
    changed = math.fsum(one["changed"] for one in counted) / len(counted)
    return {
        "phases": [phase for phase in ("prefill", "decode") if phase in found],
        "layers_dense": sorted(set.intersection(*(set(one["layers_dense"]) for one in counted))),
        "changed": changed,
        "inactive": changed < FLOOR,
    }
