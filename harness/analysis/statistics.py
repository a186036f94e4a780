"""From per-example numbers to a number with its interval; from two methods on the same examples to a tested difference.

Units of independence are clusters (document, dialogue, image); an example without one is its own. Every metric is a ratio
of cluster sums with a CR2 standard error and Satterthwaite's degrees of freedom (`clusters.py`; for examples without
clusters these are the textbook's error and n - 1). How often these rules err is simulated by `benchmarks/error_rates.py`;
`docs/statistics.md` has the table and what was rejected.

One method:
* between 0 and 1 (percentages): the exact Clopper-Pearson interval, which never leaves [0, 1] and does not collapse at
  its ends; with clusters, or values between 0 and 1, on the effective sample size `v (1 - v) / se^2`, corrected for degrees
  of freedom, for right and wrong answers at most n (Korn and Graubard, Survey Methodology 24, 1998). Where clusters agree
  or are few, each counts as one answer: for G equal clusters that are all right [(alpha/2)^(1/G), 1].
* other means and ratios: Student's t; of `exp` (perplexity) on the logarithm.

Two methods:
* Student's t on the difference. Right and wrong answers without clusters: McNemar's exact test instead.
* the interval of a percentage's difference is made from those of what was gained and what was lost, each as above, by the
  distances of their ends (MOVER: Zou and Donner, Statistics in Medicine 27, 2008), so that it is right where few answers
  changed, too; of other metrics it is Student's t.
* p is never below 2^(1 - K), where K clusters changed: exchanging the two methods in each of them gives 2^K outcomes that
  are as likely if there is no difference, and either may be the better one. A difference that all G clusters agree on
  has no t: between -1 and 1 at worst, the others having at most the probability that G equal outcomes leave them,
  `1 - (alpha/2)^(1/G)`, there is an interval, and the p that belongs to it is 2 (1 + |d|)^-G.
* interval and test never contradict each other: an interval holds 0 unless p says otherwise, and then ends where the test
  does.

What cannot be told is None with a `reason`:
* `few clusters`: fewer degrees of freedom than four equal clusters have, as there are fewer, or as one outweighs the others:
  then Student's t is right for numbers only that are normal. A percentage keeps its interval, in which each cluster is one
  answer. Also p where 2^(1 - G) is no evidence: at 5 %, with fewer than six clusters.
* `no spread`: all clusters agree on a number without bounds.

No data: value None. One cluster: a value without an interval. Rows that lack the metric are left out and counted in
`n_missing`; a row that belongs to none of a metric's suffixes, but to others, is left out without being missing.
Results do not depend on the order of the rows, to the last bit, and repeat exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import special  # not scipy.stats: it takes a second to import, and wraps these functions

from harness.analysis.clusters import Changes, Estimated, changes, cluster_sums, estimated, ratios
from harness.contracts.metric import Metric

Row = Mapping[str, float]
FEW, NO_SPREAD = "few clusters", "no spread"
ENOUGH = 3 - 1e-6  # degrees of freedom: those of four equal clusters, but for rounding


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval. `n`: examples used; `n_missing`: examples without this metric; `reason`: why
    there is no interval.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_clusters: int
    n_missing: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Difference:
    """Method minus baseline, same examples. `test`: `clustered t`, `exact McNemar`, `equal clusters` or `none`; `reason`: why
    p (and perhaps the interval) is None; `error`: the standard error.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    n_clusters: int
    test: str
    significant: bool
    n_missing: int = 0
    reason: str = ""
    error: float | None = None


# -- one method ------------------------------------------------------------------------------------------------------


def aggregate(
    metric: Metric, rows: Sequence[Row], clusters: Sequence[str] | None = None, confidence: float = 0.95
) -> Estimate:
    """`metric` over `rows` with its interval. `clusters[i]` belongs to `rows[i]`; empty means independent."""
    names = _names(clusters, len(rows))
    used = _used(metric, rows)
    missing = _missing(metric, rows, used)
    labels, chosen = [names[i] for i in used], [rows[i] for i in used]
    count = len(set(labels))
    columns = _columns(metric, chosen)
    found = ratios(metric, cluster_sums((_parts(row, columns) for row in chosen), labels)) if used else None
    if found is None:
        return Estimate(None, None, None, len(used), count, missing)
    binary = metric.kind == "mean" and metric.percent and {float(row[metric.name]) for row in chosen} <= {0.0, 1.0}
    if not found.totals.any():  # 0 / 0: what it counts as is a convention
        return Estimate(found.value, None, None, len(used), count, missing)
    low, high, reason = _interval(metric, estimated(found), len(used), count, binary, confidence)
    return Estimate(found.value, low, high, len(used), count, missing, reason)


Interval = tuple[float | None, float | None, str]


def _interval(metric: Metric, e: Estimated, n: int, count: int, binary: bool, confidence: float) -> Interval:
    if count < 2:
        return None, None, FEW
    if metric.percent and 0 <= e.value <= 1:
        size = _effective_size(e, n, confidence)
        size = n if binary and (count == n or size > n) else size
        return *clopper_pearson(e.value * size, size, confidence), ""
    if not math.isfinite(e.value):
        return None, None, ""
    if e.df < ENOUGH:
        return None, None, FEW
    if not e.error:
        return None, None, NO_SPREAD
    half = float(special.stdtrit(e.df, (1 + confidence) / 2)) * e.error
    if metric.transform == "exp":
        return e.value * math.exp(-half / e.value), e.value * math.exp(half / e.value), ""
    return e.value - half, e.value + half, ""


def _effective_size(e: Estimated, n: int, confidence: float) -> float:
    """How many independent right and wrong answers the `n` examples are worth."""
    if e.df < ENOUGH or not e.error:
        return e.effective
    quantile, own = (float(special.stdtrit(df, (1 + confidence) / 2)) for df in (n - 1, e.df))
    return e.value * (1 - e.value) * (quantile / own / e.error) ** 2


def clopper_pearson(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a proportion, k of n (for effective sizes not whole numbers)."""
    tail = (1 - confidence) / 2
    low = 0.0 if k <= 0 else float(special.betaincinv(k, n - k + 1, tail))
    high = 1.0 if k >= n else float(special.betaincinv(k + 1, n - k, 1 - tail))
    return low, high


# -- two methods on the same examples --------------------------------------------------------------------------------


def paired(
    metric: Metric,
    rows_a: Sequence[Row],
    rows_b: Sequence[Row],
    clusters: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> Difference:
    """`a - b`, where `rows_a[i]` and `rows_b[i]` are the same example. Significant: p below 1 - confidence."""
    if len(rows_a) != len(rows_b):
        raise ValueError(f"pairs need the same examples: {len(rows_a)} and {len(rows_b)} rows")
    names = _names(clusters, len(rows_a))
    used = sorted({*_used(metric, rows_a)} & {*_used(metric, rows_b)})
    labels = [names[i] for i in used]
    count, missing = len(set(labels)), _missing(metric, rows_a, used)
    nothing = Difference(None, None, None, None, len(used), count, "none", False, missing)
    if not used:
        return nothing
    columns = _columns(metric, [rows[i] for i in used for rows in (rows_a, rows_b)])
    half = len(columns)
    sums = cluster_sums(((*_parts(rows_a[i], columns), *_parts(rows_b[i], columns)) for i in used), labels)
    a, b = ratios(metric, sums[:, :half]), ratios(metric, sums[:, half:])
    if a is None or b is None or not math.isfinite(a.value - b.value):
        return nothing
    e = estimated(a, b)
    pairs = [(rows_a[i], rows_b[i]) for i in used] if count == len(used) else []
    discordant = _discordant(metric, pairs)
    test = _tested(metric, e, discordant, len(used), confidence)
    changed = int((sums[:, :half] != sums[:, half:]).any(axis=1).sum())
    test = _allowed(test, changed, count, confidence)
    low, high = test.low, test.high
    if metric.percent and low is not None:
        low, high = _bounded(e, changes(a, b, e), len(used), discordant is not None, confidence)
    low, high = _agreeing(low, high, test, confidence)
    significant = test.p is not None and test.p < 1 - confidence
    return Difference(
        e.value, low, high, test.p, len(used), count, test.name, significant, missing, test.reason, e.error
    )


@dataclass(frozen=True)
class _Test:
    """`low`, `high`: what the test itself leaves; they hold 0 exactly if p is no evidence."""

    name: str
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: str = ""


def _tested(metric: Metric, e: Estimated, discordant: tuple[int, int] | None, n: int, confidence: float) -> _Test:
    """`discordant`: (wins, losses) of right and wrong answers without clusters, else None."""
    if e.df < ENOUGH:
        return _Test("none", reason=FEW)
    if not e.error and not metric.percent:
        return _Test("none", reason=NO_SPREAD)
    if not e.error:
        # the rest of the outcomes is -1 or 1 at worst
        rest = 1 - clopper_pearson(e.effective, e.effective, confidence)[0]
        p = min(1.0, 2 * (1 + abs(e.value)) ** -e.effective)
        return _Test("equal clusters", e.value - rest * (1 + e.value), e.value + rest * (1 - e.value), p)
    if discordant is None:
        half = float(special.stdtrit(e.df, (1 + confidence) / 2)) * e.error
        p = float(2 * special.stdtr(e.df, -abs(e.value) / e.error))
        return _Test("clustered t", e.value - half, e.value + half, p)
    wins, total = discordant[0], sum(discordant)
    low, high = ((2 * bound - 1) * total / n for bound in clopper_pearson(wins, total, confidence))
    return _Test("exact McNemar", low, high, min(1.0, 2 * float(special.bdtr(min(discordant), total, 0.5))))


def _bounded(e: Estimated, found: Changes, n: int, exact: bool, confidence: float) -> tuple[float, float]:
    """The interval of a difference between -1 and 1, from those of its gains and losses (MOVER)."""
    sides = (found.gains, found.losses)
    sizes = [float(n) if exact else _effective_size(side, n, confidence) if side.error else 0.0 for side in sides]
    sizes = [size or max(sizes) or e.effective for size in sizes]  # the side without a change is as large as the other
    (gain, more), (loss, worse) = (
        (side.value, clopper_pearson(side.value * size, size, confidence))
        for side, size in zip(sides, sizes, strict=True)
    )
    below = _hypot(gain - more[0], worse[1] - loss, found.correlation)
    above = _hypot(more[1] - gain, loss - worse[0], found.correlation)
    return max(-1.0, e.value - below), min(1.0, e.value + above)


def _hypot(x: float, y: float, correlation: float) -> float:
    return math.sqrt(max(0.0, x * x + y * y - 2 * correlation * x * y))


def _allowed(test: _Test, changed: int, count: int, confidence: float) -> _Test:
    """The test with no more evidence than exchanging the methods in each changed cluster can give."""
    if test.p is None:
        return test
    if 2.0 ** (1 - count) >= 1 - confidence:
        return _Test("none", test.low, test.high, None, FEW)
    return _Test(test.name, test.low, test.high, max(test.p, min(1.0, 2.0 ** (1 - changed))))


def _agreeing(
    low: float | None, high: float | None, test: _Test, confidence: float
) -> tuple[float | None, float | None]:
    """The interval, which holds 0 unless the test speaks against it; then it ends where the test's own does, if before 0."""
    if low is None or high is None or test.low is None or test.high is None:
        return None, None
    if test.p is None or test.p >= 1 - confidence:
        return min(low, 0.0), max(high, 0.0)
    if low <= 0 <= high:
        return (test.low, high) if test.low > 0 else (low, test.high)
    return low, high


def _discordant(metric: Metric, pairs: Sequence[tuple[Row, Row]]) -> tuple[int, int] | None:
    if not pairs or metric.kind != "mean" or not metric.percent:
        return None
    values = [(float(a[metric.name]), float(b[metric.name])) for a, b in pairs]
    if any(x not in (0.0, 1.0) for pair in values for x in pair):
        return None
    return values.count((1.0, 0.0)), values.count((0.0, 1.0))


def _columns(metric: Metric, rows: Sequence[Row]) -> list[str]:
    """The keys that a metric is made of: num, den, and so on for every suffix that some row has. The empty key counts rows."""
    if metric.kind == "mean":
        return [metric.name, ""]
    if not metric.macro:
        return [metric.num, metric.den]
    pairs = [(f"{metric.num}@{suffix}", f"{metric.den}@{suffix}") for suffix in metric.macro]
    return [key for pair in pairs if any(pair[1] in row for row in rows) for key in pair]


def _parts(row: Row, names: Sequence[str]) -> tuple[float, ...]:
    return tuple([row.get(name) or 0.0 if name else 1.0 for name in names])  # a list first: this runs for every row


def untold(difference: Mapping[str, Any] | None) -> str:
    """Why a stored difference was not tested; empty if it was, if there is none, or in records that are older than reasons."""
    if not difference or difference.get("value") is None or difference.get("p") is not None:
        return ""
    return str(difference.get("reason") or "")


def beats(difference: Difference | Mapping[str, Any], metric: Metric) -> bool:
    """True if a method is significantly better than the baseline: an alarm if it only leaves things out."""
    get = difference.get if isinstance(difference, Mapping) else lambda key: getattr(difference, key)
    value = get("value")
    return bool(get("significant")) and value is not None and (value > 0) == metric.higher_is_better


# -- breakdown -------------------------------------------------------------------------------------------------------


def groups(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> list[tuple[dict[str, Any], list[int]]]:
    """Indices of `rows` for each value of each key of `row["meta"]`, then for each combination of two or more keys.

    Numbers sort as numbers. A key that a row lacks has the value None; a key that no row has gives no groups.
    """
    known = [key for key in by if any(key in row.get("meta", {}) for row in rows)]
    levels = [(key,) for key in known] + ([tuple(known)] if len(known) > 1 else [])
    result = []
    for level in levels:
        found: dict[tuple[Any, ...], list[int]] = {}
        for i, row in enumerate(rows):
            found.setdefault(tuple(_plain(row.get("meta", {}).get(key)) for key in level), []).append(i)
        result += [(dict(zip(level, key, strict=True)), found[key]) for key in sorted(found, key=_sortable)]
    return result


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _sortable(key: tuple[Any, ...]) -> list[tuple[int, float, str]]:
    return [(0, v, "") if isinstance(v, int | float) else (1 + (v is None), 0.0, str(v)) for v in key]


def _names(clusters: Sequence[str] | None, n: int) -> list[Any]:
    """A label per row; the row's number where there is no cluster."""
    if clusters is None:
        return list(range(n))
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} clusters for {n} rows")
    return [name or i for i, name in enumerate(clusters)]


def _used(metric: Metric, rows: Sequence[Row]) -> list[int]:
    """The rows that have the metric; with suffixes, under at least one of them."""
    if metric.macro:
        several = {f"{metric.den}@{suffix}" for suffix in metric.macro}
        return [i for i, row in enumerate(rows) if not several.isdisjoint(row)]
    keys = (metric.num, metric.den) if metric.kind == "ratio" else (metric.name,)
    return [i for i, row in enumerate(rows) if all(row.get(key) is not None for key in keys)]


def _missing(metric: Metric, rows: Sequence[Row], used: Sequence[int]) -> int:
    """Rows that should have the metric and do not; one that has it under another suffix should not."""
    rest = set(range(len(rows))).difference(used)
    if not metric.macro:
        return len(rest)
    return sum(not any(key.startswith(f"{metric.den}@") for key in rows[i]) for i in rest)
