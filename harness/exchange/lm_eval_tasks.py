"""One cell as lm-evaluation-harness would have stored it: results and samples of its tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.contracts.metric import Metric, as_metric
from harness.disk.whole import read_json, remedy
from harness.errors import UserError
from harness.records.cells import CellRecord

NORMAL = 1.959964  # 97.5 % quantile: half a 95 % interval is so many standard errors
MISSING = "N/A"  # the library's word for no value


@dataclass(frozen=True)
class Part:
    """What a cell adds to a results file. `samples`: rows by task; `asked`: options of `task=lm_eval`."""

    results: Mapping[str, Any]
    samples: Mapping[str, list[dict[str, Any]]]
    asked: Mapping[str, Any] = field(default_factory=dict)


def read(cell: CellRecord) -> Part:
    """A finished cell, whatever its task is."""
    file = _summary(cell)
    rows = sorted(cell.samples(), key=lambda row: row["id"])
    if file.exists() and all("requests" in (row.get("meta") or {}) for row in rows):
        try:
            return _theirs(cell, read_json(file), rows)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{file} is not what the task wrote ({type(error).__name__}: {error}). {remedy(cell.path)}"
            ) from error
    return _ours(cell, rows)


def _summary(cell: CellRecord) -> Path:
    """The library's own results; cells of earlier versions have them among their figures."""
    file, earlier = cell.path / "summary.json", cell.path / "figures" / "lm_eval.json"
    return file if file.exists() or not earlier.exists() else earlier


def sha(value: Any) -> str:
    """The library's hash of a text, or of a document as indented JSON."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def texts(value: Any) -> Any:
    """Everything in nested lists as text, as the library does so that all lines have equal columns."""
    return [texts(one) for one in value] if isinstance(value, list) else str(value)


# -- tasks of the library ---------------------------------------------------------------------------------------------


def _theirs(cell: CellRecord, results: Mapping[str, Any], rows: list[dict[str, Any]]) -> Part:
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in results.get("configs", {})}
    for row in sorted(rows, key=lambda row: row["meta"]["doc_id"]):
        meta = row["meta"]
        repeats = (results["configs"].get(meta["task"]) or {}).get("repeats") or 1
        samples.setdefault(meta["task"], []).extend(_documents(row, repeats))
    # the library writes all documents under one filter, then all under the next
    ordered = {name: sorted(found, key=_filter_order(found)) for name, found in samples.items() if found}
    asked = (cell.config.get("identity") or {}).get("task", {}).get("params") or {}
    return Part(results, ordered, asked)


def _filter_order(rows: list[dict[str, Any]]) -> Any:
    names = list(dict.fromkeys(row["filter"] for row in rows))
    return lambda row: names.index(row["filter"])


def _documents(row: Mapping[str, Any], repeats: int) -> list[dict[str, Any]]:
    """The lines of one document: one for each filter."""
    meta = row["meta"]
    arguments = [_arguments(request, meta["contexts"]) for request in meta["requests"]]
    responses = [[one] * repeats for one in json.loads(row["text"] or "[]")]
    common = {
        "doc_id": meta["doc_id"],
        "doc": meta["doc"],
        "target": meta["target"],
        "arguments": {
            f"gen_args_{i}": {f"arg_{j}": one for j, one in enumerate(args)} for i, args in enumerate(arguments)
        },
        "resps": texts(responses),
    }
    hashes = {"doc_hash": sha(meta["doc"]), "prompt_hash": sha(arguments[0][0]), "target_hash": sha(meta["target"])}
    return [
        common
        | {"filtered_resps": texts(found["filtered"]), "filter": chosen, "metrics": list(found["metrics"])}
        | hashes
        | found["metrics"]
        for chosen, found in (row.get("parsed") or {}).items()
    ]


def _arguments(request: Mapping[str, Any], contexts: list[str]) -> list[Any]:
    if request["type"] == "loglikelihood_rolling":
        return [request["text"]]
    if request["type"] == "loglikelihood":
        return [contexts[request["context"]], request["continuation"]]
    return [contexts[request["context"]], request.get("given", {})]


# -- our own tasks ----------------------------------------------------------------------------------------------------


def _ours(cell: CellRecord, rows: list[dict[str, Any]]) -> Part:
    """The task under its label. Prompts are not in our records, only their digests: `arg_0` is empty."""
    name, facts = cell.labels["task"], cell.config.get("task_facts") or {}
    metrics = [as_metric(m) for m in facts.get("metrics", ())]
    values: dict[str, Any] = {"name": name, "alias": name, "sample_len": len(rows)}
    for metric in metrics:
        values |= _value(metric, (cell.metrics.get("values") or {}).get(metric.name) or {})
    everywhere = [m for m in metrics if m.kind == "mean" and all(m.name in row["metrics"] for row in rows)]
    likelihood = bool(rows) and not any(row.get("n_new_tokens") for row in rows)
    config = {
        "task": name,
        "output_type": "loglikelihood_rolling" if likelihood else "generate_until",
        "metric_list": [
            {"metric": m.name, "aggregation": "mean", "higher_is_better": m.higher_is_better} for m in everywhere
        ],
        "num_fewshot": 0,
        "repeats": 1,
        "metadata": {"heed": (cell.config.get("identity") or {}).get("task")},
    }
    results = {
        "results": {name: values},
        "group_subtasks": {},
        "configs": {name: config},
        "versions": {name: MISSING},
        "n-shot": {name: 0},
        "higher_is_better": {name: {m.name: m.higher_is_better for m in metrics}},
        "n-samples": {name: {"original": len(rows) + int(cell.metrics.get("n_skipped") or 0), "effective": len(rows)}},
    }
    return Part(results, {name: [_sample(i, row, [m.name for m in metrics]) for i, row in enumerate(rows)]})


def _value(metric: Metric, estimate: Mapping[str, Any]) -> dict[str, Any]:
    """Value and standard error; the error is half of our interval, which counts clusters, in units of a normal one."""
    value, low, high = (estimate.get(key) for key in ("value", "low", "high"))
    if value is None:
        return {}
    error = (high - low) / 2 / NORMAL if low is not None and high is not None else MISSING
    return {f"{metric.name},none": value, f"{metric.name}_stderr,none": error}


def _sample(number: int, row: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    doc = {"id": row["id"], "meta": row.get("meta") or {}, "references": row.get("references") or []}
    target = str((row.get("references") or [""])[0])
    metrics = {name: row["metrics"][name] for name in names if name in row["metrics"]}
    text = "" if row.get("text") is None else str(row["text"])
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": "", "arg_1": ""}},
        "resps": [[text]],
        "filtered_resps": [text],
        "filter": "none",
        "metrics": list(metrics),
        "doc_hash": sha(doc),
        "prompt_hash": str(row.get("prompt_sha256") or ""),
        "target_hash": sha(target),
    } | metrics
