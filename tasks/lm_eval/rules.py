"""From lm-evaluation-harness's metrics to ours: what each document adds, and how it becomes one number with an interval.

The library hands a document's value to an aggregation function over all documents. Which of ours equals it:

    mean, nanmean, brier_score    mean over documents
    weighted_perplexity           exp(sum of nll / sum of words or bytes)
    perplexity                    exp(sum of nll / documents)
    bits_per_byte                 sum of bits / sum of bytes
    f1 (two classes)              2 * true positives / (predicted + actual positives)

Every other aggregation (bleu, chrf, ter, matthews_corrcoef, median, a task's own function) is no such sum and is never
replaced by a mean under its name. The value that the library computes from all documents stands in the cell's
`summary.json` and in the export; our table shows, under names that say so, what single documents give:
`<metric>_agreement` (mcc: share of documents with prediction = target) or `<metric>_per_document` (the mean of the
aggregation applied to one document at a time). These do not count as a loss when methods are compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.contracts.metric import Metric
from harness.errors import UserError
from tasks.lm_eval.build import INFINITE
from tasks.lm_eval.library import Loaded

# Means that are shares of something by their definition; other means keep their own scale.
SHARES = re.compile(r"(acc|acc_norm|acc_bytes|acc_mutual_info|exact_match|em|.*_acc)$")
SHOWN = 4  # metrics that stand in the terminal's table

Numbers = Mapping[str, float]
Key = tuple[str, str, str]  # task, metric, filter


@dataclass(frozen=True)
class Rule:
    """One of our metrics, and the numbers that a document's value adds to it (none if it has no part in it)."""

    metric: Metric
    kind: str
    numbers: Callable[[str, Any], Numbers]

    def of(self, value: Any) -> Numbers:
        """The numbers for a value as the library's `process_results` returns it."""
        return self.numbers(self.metric.name, value)


def rules(loaded: Loaded) -> dict[Key, Rule]:
    """A rule for every task, metric and filter, the first one first. `UserError` if there is none.

    A metric of several tasks is one number over all their documents (each task's own stands in the breakdown), unless
    the tasks mean different things by its name: then each has its own, `task/metric`.
    """
    found = {key: _rule(*key, loaded.tasks[key[0]]) for key in _keys(loaded)}
    meanings: dict[str, set[Any]] = {}
    for rule in found.values():
        meanings.setdefault(rule.metric.name, set()).add((rule.kind, rule.metric.higher_is_better))
    for key, rule in found.items():
        if len(meanings[rule.metric.name]) > 1:
            found[key] = replace(rule, metric=_named(rule.metric, f"{key[0]}/{rule.metric.name}"))
    if not found:
        raise UserError(f"The lm-eval task '{next(iter(loaded.tasks))}' measures nothing.")
    return found


def metrics(found: Mapping[Key, Rule]) -> tuple[Metric, ...]:
    """Our metrics, each once."""
    unique = list({rule.metric.name: rule.metric for rule in found.values()}.values())
    return tuple(replace(metric, shown=i < SHOWN) for i, metric in enumerate(unique))


def filters(task: Any) -> list[str]:
    """The names under which a task filters responses (gsm8k: strict-match, flexible-extract)."""
    return [one.name for one in getattr(task, "_filters", [])] or ["none"]


def _keys(loaded: Loaded) -> list[Key]:
    return [
        (name, metric, chosen)
        for name, task in loaded.tasks.items()
        for metric in task.aggregation()
        for chosen in filters(task)
        if metric != "bypass"
    ]


def _rule(name: str, metric: str, chosen: str, task: Any) -> Rule:
    label = metric if chosen == "none" else f"{metric},{chosen}"
    aggregation = task.aggregation()[metric]
    kind = _kind(aggregation)
    better = task.higher_is_better().get(metric) is not False
    share = bool(SHARES.match(metric))
    if kind == "mean":
        return Rule(Metric(label, higher_is_better=better, percent=share), kind, _mean)
    if kind in RATIOS:
        transform, numbers = RATIOS[kind]
        return Rule(_named(_ratio(transform, better, kind == "f1"), label), kind, numbers)
    if kind == "agreement":
        return Rule(Metric(f"{label}_agreement", judged=False), kind, _agreement)
    if kind == "brier":
        return Rule(Metric(label, higher_is_better=better, percent=False), kind, _each(aggregation))
    described = Metric(f"{label}_per_document", higher_is_better=better, percent=False, judged=False)
    return Rule(described, kind, _each(aggregation))


def _ratio(transform: Any, better: bool, f1: bool) -> Metric:
    # no positives at all: the library's f1 is 0
    return Metric("", "ratio", transform=transform, higher_is_better=better, percent=f1, undefined=0.0 if f1 else None)


def _named(metric: Metric, name: str) -> Metric:
    if metric.kind == "mean":
        return replace(metric, name=name)
    return replace(metric, name=name, num=f"{name}.sum", den=f"{name}.count")


def _kind(aggregation: Any) -> str:
    """What an aggregation function is, in the words of this module; `own` if it is no sum over documents."""
    import statistics

    import numpy as np
    from lm_eval.api import metrics as library

    known = {
        library.mean: "mean", library.nanmean: "mean", np.mean: "mean", np.nanmean: "mean", statistics.mean: "mean",
        library.weighted_perplexity: "weighted_perplexity", library.perplexity: "perplexity",
        library.bits_per_byte: "bits_per_byte", library.f1_score: "f1", library.brier_score: "brier",
        library.matthews_corrcoef: "agreement",
    }  # fmt: skip
    try:
        return known.get(aggregation, "own")
    except TypeError:  # a callable that cannot be hashed
        return "own"


# -- what a document adds ---------------------------------------------------------------------------------------------


def number(value: Any) -> float | None:
    """A plain number (numpy's included), infinities as 1e30; None for anything else and for NaN."""
    if isinstance(value, str | bytes) or value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(found) else max(-INFINITE, min(INFINITE, found))


def _mean(name: str, value: Any) -> Numbers:
    found = number(value)
    return {} if found is None else {name: found}


def _agreement(name: str, value: Any) -> Numbers:
    gold, guess = value
    return {name: float(gold == guess)}


def _each(aggregation: Callable[..., Any]) -> Callable[[str, Any], Numbers]:
    def numbers(name: str, value: Any) -> Numbers:
        try:
            return _mean(name, aggregation([value]))
        except Exception:  # a task's own function may refuse a single document; then there is nothing to show for it
            return {}

    return numbers


def _parts(name: str, top: Any, bottom: Any) -> Numbers:
    over, under = number(top), number(bottom)
    return {} if over is None or under is None else {f"{name}.sum": over, f"{name}.count": under}


def _weighted(name: str, value: Any) -> Numbers:
    return _parts(name, -value[0], value[1])


def _perplexity(name: str, value: Any) -> Numbers:
    return _parts(name, -value, 1.0)


def _bits(name: str, value: Any) -> Numbers:
    return _parts(name, -value[0] / math.log(2), value[1])


def _f1(name: str, value: Any) -> Numbers:
    gold, guess = (int(one == 1) for one in value)
    return _parts(name, 2.0 * gold * guess, float(gold + guess))


RATIOS: dict[str, tuple[str, Callable[[str, Any], Numbers]]] = {
    "weighted_perplexity": ("exp", _weighted),
    "perplexity": ("exp", _perplexity),
    "bits_per_byte": ("identity", _bits),
    "f1": ("identity", _f1),
}
