"""The rows behind the tables: a pure function of the records, used by the terminal, the report and the tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.baseline import baselines
from harness.analysis.statistics import beats
from harness.contracts.metric import Metric, as_metric
from harness.errors import Unsupported
from harness.records.cells import CellRecord


def rows_for_table(cells: Sequence[CellRecord]) -> list[dict[str, Any]]:
    """One row per cell, by model, task and method; the baseline first. Numbers that are not known are None.

    Keys: `run_id model task method is_baseline question status reason metric estimate difference alarm inactive n skipped idle
    density_prefill density_decode kv_logical kv_physical` (bytes relative to dense) `ttft_ms decode_tokens_per_s peak_memory_bytes
    memory_kind device hardware prompt_tokens simulated groups`. `idle`: samples of which the answers are dense's by
    construction. `question`: the phase in which the method reads it, empty where it has no choice. `status`: done,
    unfinished, failed, refused or damaged; `metric`: the headline (`Metric`) or None.
    """
    bases = baselines(cells)

    def order(cell: CellRecord) -> tuple[str, str, bool, str]:
        return _label(cell, "model"), _label(cell, "task"), bases.get(cell.run_id) is not cell, _label(cell, "method")

    return [_row(cell, bases.get(cell.run_id)) for cell in sorted(cells, key=order)]


def _row(cell: CellRecord, base: CellRecord | None) -> dict[str, Any]:
    status, reason = status_of(cell)
    metric = headline(cell)
    measured = cell.metrics if status == "done" else {}
    name = metric.name if metric else ""
    difference = (measured.get("vs_dense") or {}).get(name)
    return {
        "run_id": cell.run_id,
        "model": _label(cell, "model"),
        "task": _label(cell, "task"),
        "method": _label(cell, "method"),
        "is_baseline": base is cell,
        "question": question(cell),
        "status": status,
        "reason": reason,
        "metric": metric,
        "estimate": (measured.get("values") or {}).get(name),
        "difference": difference,
        "alarm": bool(metric and difference and beats(difference, metric)),
        "inactive": bool((measured.get("acted") or {}).get("inactive")),
        "n": measured.get("n"),
        "skipped": measured.get("n_skipped") or 0,
        "idle": measured.get("n_idle") or 0,
        "groups": measured.get("groups") or [],
        **_density(measured.get("usage") or {}, base is cell),
        **_memory_of_keys(cell, base),
        **_speed(cell.efficiency),
    }


def question(cell: CellRecord) -> str:
    """`prefill` or `decode`: when the question is read (`contracts.method.AfterContext`); empty where nobody chose."""
    return str((cell.config.get("method_facts") or {}).get("question") or "")


def status_of(cell: CellRecord) -> tuple[str, str]:
    """`done`, `unfinished`, `failed`, `refused` (the method cannot serve this model) or `damaged`, with the reason."""
    failure = cell.metrics.get("failure")
    if cell.problem:
        return "damaged", cell.problem
    if failure and failure.get("kind") == Unsupported.__name__:
        return "refused", str(failure.get("message", ""))
    if failure:
        return "failed", f"{failure.get('kind', '')}: {failure.get('message', '')}".strip(": ")
    return ("done", "") if cell.done else ("unfinished", "the run stopped; run the same command again to continue")


def headline(cell: CellRecord) -> Metric | None:
    """The first metric of the cell's task."""
    metrics = (cell.config.get("task_facts") or {}).get("metrics") or []
    return as_metric(metrics[0]) if metrics else None


def _density(usage: Mapping[str, Any], dense: bool) -> dict[str, Any]:
    """The baseline reads everything by definition: density is relative to it."""
    both = usage.get("density", 1.0 if dense else None)
    return {f"density_{phase}": usage.get(f"density_{phase}", both) for phase in ("prefill", "decode")}


def _memory_of_keys(cell: CellRecord, baseline: CellRecord | None) -> dict[str, float | None]:
    """KV cache bytes relative to the baseline's on the measured request (or, without one, on the samples, which know what
    they need and not what a batch allocated).
    """
    result: dict[str, float | None] = {}
    for kind in ("logical", "physical"):
        ratio = None
        for source in ("efficiency", "metrics"):  # the measured request is of equal length
            ours, base = (_kv_bytes(c, source, kind) for c in (cell, baseline))
            if ratio is None and ours is not None and base:
                ratio = ours / base
        result[f"kv_{kind}"] = ratio
    return result


def _kv_bytes(cell: CellRecord | None, source: str, kind: str) -> float | None:
    if cell is None:
        return None
    facts = (cell.metrics.get("usage") or {}) if source == "metrics" else cell.efficiency
    return number(facts.get(f"kv_bytes_{kind}"))


def _speed(efficiency: Mapping[str, Any]) -> dict[str, Any]:
    hardware = efficiency.get("hardware") or {}
    return {
        "ttft_ms": number(efficiency.get("ttft_ms")),
        "decode_tokens_per_s": number(efficiency.get("decode_tokens_per_s")),
        "peak_memory_bytes": number(efficiency.get("peak_memory_bytes")),
        "memory_kind": efficiency.get("memory_kind") or "",
        "device": str(hardware.get("device") or efficiency.get("device") or ""),
        "hardware": str(hardware.get("name") or ""),
        "prompt_tokens": efficiency.get("prompt_tokens"),
        "simulated": bool(efficiency.get("simulated")),
    }


def asked(sample: Mapping[str, Any]) -> str:
    """The digest of what a sample was asked, whatever template it met: by it two cells prove that they asked the same.
    In older records it stands under `prompt_sha256`, where now the digest of the token ids is.
    """
    return str(sample.get("asked_sha256") or sample.get("prompt_sha256") or "")


def number(value: Any) -> float | None:
    """A stored number, or the median of a stored summary {"median", "q20", "q80", "n"}."""
    if isinstance(value, Mapping):
        value = value.get("median")
    return float(value) if isinstance(value, int | float) else None


def _label(cell: CellRecord, key: str) -> str:
    return str(cell.labels.get(key) or (cell.run_id if key == "method" else "?"))
