"""Claims that stored results decide: which cells a claim speaks of, and what they found.

A claim about a suite speaks only of cells that follow its protocol: a model of the suite, its decoding, no limit, and every
parameter that the suite sets for task and method. If the base row of the suite is far from the paper's, nothing can be said
about its methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.statistics import untold
from harness.claims.kinds import equal
from harness.claims.suites import suite
from harness.claims.words import Claim
from harness.config import compose
from harness.config.compose import BASELINE
from harness.contracts.check import Finding
from harness.records.cells import CellRecord


def findings(claim: Claim, cells: Sequence[CellRecord]) -> tuple[dict[str, Finding], str]:
    """By model what the matching cells found; or nothing, and why."""
    matching = [c for c in cells if c.done and speaks_of(claim, c, claim.cells["method"])]
    if not matching:
        return {}, missing(claim)
    found: dict[str, Finding] = {}
    reasons = []
    for cell in matching:
        reason = _base_is_far(claim, cell, cells) or found_in(claim, cell)
        if isinstance(reason, Finding):
            found[cell.labels["model"]] = reason
        else:
            reasons.append(f"{cell.labels['model']}: {reason}")
    return found, "" if found else "; ".join(reasons)


def missing(claim: Claim) -> str:
    """What would make the results."""
    cells = claim.cells
    if "suite" not in cells:
        return f"no stored result; run: {cells['run']}"
    command = cells.get("run") or f"heed run suite={cells['suite']}"
    note = f"; {claim.note}" if claim.note else ""
    models = ", ".join(_models(claim))
    return f"no stored result for {models} under this protocol; run: {command} (data: see the suite's file){note}"


def speaks_of(claim: Claim, cell: CellRecord, method: str) -> bool:
    """Whether the cell is `method` on the claim's task and model, under its protocol."""
    cells, labels, who = claim.cells, cell.labels, cell.config.get("identity") or {}
    if labels.get("method") != method or labels.get("task") != cells["task"]:
        return False
    models = _models(claim, base=method != cells["method"])
    if models and labels.get("model") not in models:
        return False
    if "suite" in cells and who.get("limit") is not None:
        return False
    wanted = _protocol(claim, method)
    return all(_agrees(_part(who, group), settings) for group, settings in wanted.items())


def _protocol(claim: Claim, method: str) -> dict[str, dict[str, Any]]:
    """Parameters of decoding, task and method that a cell must have: the suite's, then the claim's own (for its method)."""
    cells = claim.cells
    given = file_of(claim) if "suite" in cells else {}
    wanted: dict[str, dict[str, Any]] = {
        "decoding": {"search": "greedy"} | (given.get("decoding") or {}) if given else {},
        "task": dict((given.get("task") or {}).get(cells["task"], {})),
        "method": dict((given.get("method") or {}).get(method, {})),
    }
    for group, settings in (cells.get("where") or {}).items():
        if group != "method" or method == cells["method"]:
            wanted[group] = wanted.get(group, {}) | dict(settings)
    return wanted


def _models(claim: Claim, base: bool = False) -> list[str]:
    """Labels of the models that a claim speaks of; empty: any. Its base row is of the suite's models."""
    own = [] if base else list(claim.cells.get("model") or [])
    return own or (models_of(file_of(claim)) if "suite" in claim.cells else [])


def file_of(claim: Claim) -> dict[str, Any]:
    return suite(compose.CONFIGS / "suite" / f"{claim.cells['suite']}.yaml")


def models_of(given: Mapping[str, Any]) -> list[str]:
    """The models that a suite's defaults name."""
    for item in given.get("defaults") or ():
        for key, value in item.items() if isinstance(item, Mapping) else ():
            if str(key).split("/")[-1] == "model":
                return [str(m) for m in value]
    return []


def _part(who: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    node = who.get(group) or {}
    return node.get("params", node)


def _agrees(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(key in stored and equal(stored[key], value, None) for key, value in wanted.items())


def found_in(claim: Claim, cell: CellRecord) -> Finding | str:
    """What the claim asks of this cell; a text if it cannot be told."""
    metric, part = claim.cells["metric"], _group(claim, cell)
    if part is None:
        return f"it has no group {claim.cells['at']}"
    factor = 100.0 if _percent(cell, metric) else 1.0
    if claim.kind == "slope":
        points = _points(claim, cell, metric, factor)
        return Finding(points=points) if len(points) > 1 else f"fewer than two values of '{claim.cells.get('over')}'"
    if claim.kind == "direction":
        change = (part.get("vs_dense") or {}).get(metric) or {}
        if change.get("value") is None:
            return "there is no dense row on the same examples"
        if reason := untold(change):
            return f"the difference cannot be told ({reason})"
        return _finding(change, factor, bool(change.get("significant")))
    value = (part.get("values") or {}).get(metric) or {}
    return f"it has no metric '{metric}'" if value.get("value") is None else _finding(value, factor, None)


def _group(claim: Claim, cell: CellRecord) -> Mapping[str, Any] | None:
    """The whole cell, or the group that `at` names."""
    if not claim.cells.get("at"):
        return cell.metrics
    groups = cell.metrics.get("groups") or []
    return next((g for g in groups if _agrees(g["by"], claim.cells["at"])), None)


def _points(claim: Claim, cell: CellRecord, metric: str, factor: float) -> tuple[tuple[float, float], ...]:
    over = claim.cells.get("over") or "length"
    points = []
    for group in cell.metrics.get("groups") or []:
        value = ((group.get("values") or {}).get(metric) or {}).get("value")
        if over in group["by"] and value is not None:
            points.append((float(group["by"][over]), factor * float(value)))
    return tuple(points)


def _finding(stored: Mapping[str, Any], factor: float, significant: bool | None) -> Finding:
    value, low, high = (None if stored.get(k) is None else factor * float(stored[k]) for k in ("value", "low", "high"))
    return Finding(value, low, high, significant)


def _percent(cell: CellRecord, metric: str) -> bool:
    facts = (cell.config.get("task_facts") or {}).get("metrics") or []
    return any(m["name"] == metric and m.get("percent", True) for m in facts)


def _base_is_far(claim: Claim, cell: CellRecord, cells: Sequence[CellRecord]) -> str:
    """Why the suite's gate keeps its methods from being judged; empty if it does not."""
    if "suite" not in claim.cells or claim.cells["method"] == BASELINE:
        return ""
    table = file_of(claim).get("published") or {}
    printed = (table.get("rows") or {}).get(BASELINE, {}).get(claim.cells["task"], {})
    bases = [c for c in cells if c.done and speaks_of(claim, c, BASELINE)]
    same = [c for c in bases if claim.cells.get("model") or c.labels["model"] == cell.labels["model"]]
    base = same[0] if same else None
    if base is None:
        return "its base row (dense) was not run"
    for metric, limit in (table.get("gate") or {}).items():
        value = ((base.metrics.get("values") or {}).get(metric) or {}).get("value")
        measured = None if value is None else value * (100 if _percent(base, metric) else 1)
        if measured is None or abs(measured - printed[metric]) > limit:
            got = "-" if measured is None else f"{measured:.1f}"
            return (
                f"the base row is not the paper's ({metric} {got}, printed {printed[metric]}): the setting differs, "
                "so nothing follows about the method"
            )
    return ""
