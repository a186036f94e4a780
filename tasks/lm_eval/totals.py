"""What lm-evaluation-harness itself makes of all documents: its result dictionary, for the export.

Values come from the task's own aggregation functions over the stored values of every document, groups from the library's
own `Group.aggregate`. Standard errors stand only where the library has a formula (means); our intervals are in the
records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.lm_eval.build import INFINITE, plain
from tasks.lm_eval.library import Loaded, version

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
MISSING = "N/A"  # the library's own word


def summary(loaded: Loaded, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result dictionary of stored sample rows, as plain JSON."""
    found: dict[str, Any] = plain(result(loaded, rows))
    return found


def result(loaded: Loaded, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`results`, `groups`, `configs`, `versions`, ... as `lm_eval.result_schema.EvalResults` describes them."""
    by_task: dict[str, list[Mapping[str, Any]]] = {name: [] for name in loaded.tasks}
    for row in rows:
        by_task[row["meta"]["task"]].append(row)
    results = {
        name: _task(name, loaded.tasks[name], sorted(of_task, key=lambda r: r["meta"]["doc_id"]))
        for name, of_task in by_task.items()
    }
    configs = {name: config(task) for name, task in loaded.tasks.items()}
    shots = {name: int(c.get("num_fewshot") or 0) for name, c in configs.items()}
    better = {name: dict(task.higher_is_better()) for name, task in loaded.tasks.items()}
    groups = {name: dict(group.aggregate(results)) for name, group in loaded.groups.items()}
    aggregated = {name: value for name, value in groups.items() if loaded.groups[name].has_aggregation}
    versions = {name: task.VERSION for name, task in loaded.tasks.items()}
    return {
        "results": results | groups,
        **({"groups": aggregated} if aggregated else {}),
        "group_subtasks": {name: group.child_names for name, group in loaded.groups.items()},
        "configs": configs,
        "versions": versions | {name: group.version for name, group in loaded.groups.items()},
        "n-shot": shots | _shared(loaded, shots),
        "higher_is_better": better | _directions(loaded, better),
        "n-samples": {
            name: {"original": len(loaded.docs[name]), "effective": len(of_task)} for name, of_task in by_task.items()
        },
        "lm_eval_version": version(),
    }


def _shared(loaded: Loaded, shots: Mapping[str, int]) -> dict[str, int]:
    """The number of few-shot examples of groups whose tasks all have the same."""
    found = {name: {shots[t.task_name] for t in group.get_all_tasks()} for name, group in loaded.groups.items()}
    return {name: numbers.pop() for name, numbers in found.items() if len(numbers) == 1}


def _directions(loaded: Loaded, better: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Which way is better in a group; None where its tasks differ."""
    found: dict[str, dict[str, Any]] = {}
    for name, group in loaded.groups.items():
        own = found.setdefault(name, {})
        for metric, way in (pair for t in group.get_all_tasks() for pair in better[t.task_name].items()):
            own[metric] = way if own.get(metric, way) == way else None
    return found


def config(task: Any) -> dict[str, Any]:
    """A task's configuration as plain data; functions as their source, without addresses in memory."""
    found: dict[str, Any] = _without_addresses(plain(task.dump_config()))
    source = (found.get("metadata") or {}).get("config_source")
    if isinstance(source, str):  # a path of this machine
        at = source.find("lm_eval/tasks/")
        found["metadata"]["config_source"] = source[at:] if at >= 0 else Path(source).name
    return found


def _without_addresses(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_addresses(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_addresses(v) for v in value]
    return ADDRESS.sub("", value) if isinstance(value, str) else value


def _task(name: str, task: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from lm_eval.api.metrics import mean, mean_stderr

    items: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        for chosen, found in (row.get("parsed") or {}).items():
            for metric, value in found["metrics"].items():
                items.setdefault((metric, chosen), []).append(restored(value))
    alias = task.get_config("task_alias") or name
    values: dict[str, Any] = {"name": name, "alias": alias, "sample_len": len(rows)}
    for (metric, chosen), of_all in items.items():
        aggregation = task.aggregation().get(metric, mean)
        values[f"{metric},{chosen}"] = _aggregated(aggregation, of_all)
        known = aggregation is mean and len(of_all) > 1
        values[f"{metric}_stderr,{chosen}"] = _aggregated(mean_stderr, of_all) if known else MISSING
    return values


def _aggregated(aggregation: Any, items: list[Any]) -> Any:
    try:
        return aggregation(items)
    except Exception as error:  # a task's own function on values that it cannot take (one class alone, ...)
        return f"{MISSING} ({type(error).__name__})"


def restored(value: Any) -> Any:
    """A stored value as `process_results` returned it: lists were tuples, 1e30 is infinity, null is NaN."""
    if isinstance(value, list):
        return tuple(restored(one) for one in value)
    if value is None:
        return float("nan")
    if isinstance(value, float) and abs(value) >= INFINITE:
        return float("inf") if value > 0 else float("-inf")
    return value
