"""Two cells side by side: may they be compared, what differs in their configs, how far are they apart, is that real?

Compared are two cells of one task on the examples that both have. What decides whether that means anything is read from
their identities: task, decoding and seed must be equal (`incomparable`); model, method and engine may differ, and are
listed (`differences`). The same examples must have asked the same.

Examples needed (`examples_for`): with `s` the standard deviation of the paired differences per example, clusters
included, a two-sided test at 5 % finds a true difference `d` with probability 0.8 from

    n = ((z_0.975 + z_0.8) * s / d)^2

on (Cohen 1988, chapter 2; the normal approximation). `s` is the measured standard error x sqrt(n).

Holm (1979): p-values of one family, a method's tasks, are corrected so that the chance of any false discovery among them stays
below 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import special

from harness.analysis.board_rows import asked, status_of
from harness.analysis.statistics import Difference, aggregate, groups, paired
from harness.contracts.metric import Metric, as_metric
from harness.disk.whole import remedy
from harness.errors import UserError
from harness.records import checked
from harness.records.cells import CellRecord
from harness.records.differing import differing
from harness.terminal.visible import line

MUST_AGREE = ("task", "decoding", "seed")
# parts of an identity in which a method and its baseline may differ; `calibration` stood there before lessons
METHOD_ONLY = ("method", "lowering", "lessons", "calibration")
SHOWN = 5  # differing settings that a message has room for
FEWEST = 6  # examples, in fewer no difference is significant
POWER = float(special.ndtri(0.975) + special.ndtri(0.8))
LOWER_IS_BETTER = ("ttft_ms", "decode_ms_per_token", "peak_memory_bytes", "kv_bytes_logical", "kv_bytes_physical")
NEEDS_NO_CLOCK = ("kv_bytes_logical", "kv_bytes_physical")  # the same on every machine


@dataclass(frozen=True)
class Compared:
    """A minus B for one metric on one part of the task; `by` is empty for the whole."""

    metric: Metric
    by: Mapping[str, Any]
    difference: Difference
    a: float | None
    b: float | None


@dataclass(frozen=True)
class Ratio:
    """A / B of medians; `low`, `high`: what the 20 and 80 % quantiles of both allow. `not_judged`: why, if so."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    not_judged: str = ""

    @property
    def disjoint(self) -> bool:
        """The quantile ranges of the two do not touch."""
        return self.low is not None and self.high is not None and (self.low > 1 or self.high < 1)


def incomparable(a: CellRecord, b: CellRecord) -> list[str]:
    """Dotted keys of the identities that must agree and do not; unusable cells are named instead."""
    for cell in (a, b):
        status, reason = status_of(cell)
        if status != "done":
            return [f"{cell.path} is {status} ({reason})"]
    return [
        key
        for part in MUST_AGREE
        for key in differing(a.config["identity"].get(part), b.config["identity"].get(part), part)
    ]


def differences(a: CellRecord, b: CellRecord) -> list[tuple[str, Any, Any]]:
    """(dotted key, value of A, value of B) for everything in which the two configs differ."""
    ours, theirs = a.config["identity"], b.config["identity"]
    return [(key, _at(ours, key), _at(theirs, key)) for key in differing(ours, theirs)]


def _at(value: Any, key: str) -> Any:
    """What stands at a dotted key; the names that it is made of may hold dots themselves."""
    if not isinstance(value, Mapping):
        return None
    if key in value:
        return value[key]
    heads = [name for name in value if key.startswith(f"{name}.")]
    return next((x for name in heads if (x := _at(value[name], key[len(name) + 1 :])) is not None), None)


Pair = tuple[dict[str, Any], dict[str, Any]]


def pairs(a: CellRecord, b: CellRecord) -> list[Pair]:
    """Rows with the same id. `UserError` if there are none or one id asked different things."""
    ours = {row["id"]: row for row in _slim(a)}
    found = [(ours[row["id"]], row) for row in _slim(b) if row["id"] in ours]
    if not found:
        raise UserError(f"{a.path} and {b.path} have no example in common: nothing can be compared. {_why(a, b)}")
    for x, y in found:
        changed = [
            what
            for what, one, other in zip(("prompt", "references"), x["asked"], y["asked"], strict=True)
            if one != other
        ]
        if changed:
            raise UserError(
                f"Example '{x['id']}' is not the same in {a.path} and {b.path}: its {' and '.join(changed)} "
                f"differ{'s' if changed == ['prompt'] else ''}. {_why(a, b)}"
            )
    return sorted(found, key=lambda pair: pair[0]["id"])


def _why(a: CellRecord, b: CellRecord) -> str:
    """What can have made the two ask other things: all settings in which they differ, but for those of the method."""
    found = [(key, x, y) for key, x, y in differences(a, b) if key.split(".")[0] not in METHOD_ONLY]
    if not found:
        return "Their settings are the same, so one of them was made with other code or changed afterwards: run both again."
    named = "; ".join(f"{key}: {_brief(x)} / {_brief(y)}" for key, x, y in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"Besides the method they differ in {named}{more}: run both with the same."


def _brief(value: Any) -> str:
    return line(value, 40)


def _slim(cell: CellRecord) -> Iterator[dict[str, Any]]:
    """What statistics need of each row: a cell may have a million with long texts."""
    for row in cell.stream():
        try:
            checked.sample(row)
        except ValueError as error:
            raise UserError(
                f"{cell.path / 'samples.jsonl'}, sample {row['id']!r}: {error}. {remedy(cell.path)}"
            ) from error
        kept = {key: row.get(key) for key in ("id", "metrics", "usage", "flags")}
        kept |= {"cluster": row.get("cluster") or "", "meta": row.get("meta") or {}}
        yield kept | {"asked": (asked(row), tuple(map(str, row.get("references") or ())))}


def compared(a: CellRecord, b: CellRecord, found: Sequence[Pair]) -> list[Compared]:
    """All metrics on the whole task, and the headline on each value of each key that the task is broken down by."""
    facts = b.config.get("task_facts") or {}
    metrics = [as_metric(m) for m in facts.get("metrics") or ()]
    out = [_compared(metric, {}, found) for metric in metrics]
    for by, indices in groups([y for _, y in found], facts.get("by") or ()):
        if metrics and len(indices) < len(found):
            out.append(_compared(metrics[0], by, [found[i] for i in indices]))
    return [one for one in out if one.difference.value is not None]


def _compared(metric: Metric, by: Mapping[str, Any], found: Sequence[Pair]) -> Compared:
    ours, theirs = [x["metrics"] for x, _ in found], [y["metrics"] for _, y in found]
    clusters = [y["cluster"] for _, y in found]
    values = [aggregate(metric, rows, clusters).value for rows in (ours, theirs)]
    return Compared(metric, by, paired(metric, ours, theirs, clusters), *values)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values in the given order; None (no test) stays None and does not count.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    out: list[float | None] = [None] * len(ps)
    floor = 0.0
    for rank, (p, i) in enumerate(order):
        floor = max(floor, min(1.0, (len(order) - rank) * p))
        out[i] = floor
    return out


def examples_for(difference: Difference, effect: float) -> int | None:
    """Examples with which a true difference of `effect` would be found four times out of five; None if nothing is known:
    where clusters are too few or agree, there is no spread to go by.
    """
    if difference.low is None or not difference.error or effect <= 0:
        return None
    return max(FEWEST, math.ceil((POWER * difference.error * math.sqrt(difference.n) / effect) ** 2))


def ratios(a: CellRecord, b: CellRecord) -> list[Ratio]:
    """Efficiency of A relative to B where both were measured."""
    out = []
    for name in LOWER_IS_BETTER:
        ours, theirs = (_summary(c.efficiency.get(name)) for c in (a, b))
        if ours is None or theirs is None or not min(*ours, *theirs) > 0:
            continue
        why = _why_not(name, a.efficiency, b.efficiency)
        out.append(Ratio(name, ours[1] / theirs[1], ours[0] / theirs[2], ours[2] / theirs[0], why))
    return out


def _summary(value: Any) -> tuple[float, float, float] | None:
    """(q20, median, q80) of what was stored; a number that was counted and not timed has no spread."""
    if isinstance(value, Mapping):
        found = tuple(value.get(k) for k in ("q20", "median", "q80"))
        return found if all(isinstance(x, int | float) for x in found) else None  # type: ignore[return-value]
    return (float(value),) * 3 if isinstance(value, int | float) else None


def _why_not(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Why this ratio says nothing; empty if it does."""
    if a.get("context_tokens") != b.get("context_tokens") or a.get("batch") != b.get("batch"):
        return "measured on requests of different size"
    if name in NEEDS_NO_CLOCK:
        return ""
    if a.get("simulated") or b.get("simulated"):
        return "simulated: a mask inside a dense kernel"
    keys = sorted(set(differing(a.get("hardware") or {}, b.get("hardware") or {})))
    return f"other hardware or library ({', '.join(keys)})" if keys else ""
