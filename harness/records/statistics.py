"""From per-example numbers to a number with its interval; from two methods on the same examples to a tested difference.

Units of independence are clusters (document, dialogue, image); an example without one is its own. With G clusters:

* mean: Student's t with G-1 degrees of freedom on the clustered standard error (Miller, "Adding Error Bars to Evals",
  arXiv 2411.00640, section 2.2) with the factor for few clusters,
  `se^2 = G/(G-1) * sum_g (sum_{i in g} (x_i - mean))^2 / n^2`; for clusters of one it is the usual standard error.
  Percentages are clipped to [0, 1].
* mean of right and wrong answers (each 0 or 1, a percentage): the t interval claims too much near 0 and 1, and at 0 and
  1 has the width 0. Instead the exact Clopper-Pearson interval; with clusters on the effective sample size
  `mean (1 - mean) / se^2`, corrected for degrees of freedom and at most n (Korn and Graubard, Survey Methodology 24,
  1998). If all answers are equal it is G: for G successes [(alpha/2)^(1/G), 1].
* ratio (perplexity; F1 as a mean over splits): percentile interval of a cluster bootstrap, 1000 resamples, fixed seed.
* difference of means: the clustered formula on the differences per example. For accuracies without clusters, p is
  McNemar's exact one, and the interval is the union of the t interval and the one that belongs to that test
  (Clopper-Pearson on the discordant pairs), so that interval and test never contradict each other. If no percentage
  changed at all, the interval is what G equal outcomes can exclude, not [0, 0]. If all changed by the same amount, p is
  the sign test's, 2^(1-G).
* difference of ratios: the same bootstrap, both methods resampled together.

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

from harness.contracts.task import Metric
from harness.records.bootstrap import bootstrap, cluster_sums, percentiles, ratio, ratio_of_totals, two_sided_p

Row = Mapping[str, float]


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval. `n`: examples used; `n_missing`: examples without this metric."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_clusters: int
    n_missing: int = 0


@dataclass(frozen=True)
class Difference:
    """Method minus baseline, same examples. `test`: `clustered t`, `exact McNemar`, `cluster bootstrap` or `none`."""

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    n_clusters: int
    test: str
    significant: bool
    n_missing: int = 0


# -- one method ------------------------------------------------------------------------------------------------------


def aggregate(
    metric: Metric, rows: Sequence[Row], clusters: Sequence[str] | None = None, confidence: float = 0.95
) -> Estimate:
    """`metric` over `rows` with its interval. `clusters[i]` belongs to `rows[i]`; empty means independent."""
    names = _names(clusters, len(rows))
    used = _used(metric, rows)
    missing = _missing(metric, rows, used)
    labels = [names[i] for i in used]
    count = len(set(labels))
    if metric.kind == "ratio":
        value, low, high = _ratio(metric, [rows[i] for i in used], labels, confidence)
    else:
        value, low, high = _mean(metric, [float(rows[i][metric.name]) for i in used], labels, confidence)
    return Estimate(value, low, high, len(used), count, missing)


def _mean(metric: Metric, values: list[float], labels: list[Any], confidence: float) -> tuple[float | None, ...]:
    if not values:
        return None, None, None
    mean, half = _clustered(values, labels, confidence)
    if half is None:
        return mean, None, None
    low, high = mean - half, mean + half
    if metric.percent and set(values) <= {0.0, 1.0}:
        size = _effective_size(mean, half, len(values), len(set(labels)), confidence)
        low, high = clopper_pearson(mean * size, size, confidence)
    if metric.percent:
        low, high = max(low, 0.0), min(high, 1.0)
    return mean, low, high


def _effective_size(mean: float, half: float, n: int, count: int, confidence: float) -> float:
    """How many independent answers `n` in `count` clusters are worth; `half`: half width of their t interval."""
    if count == n:
        return n
    if mean in (0.0, 1.0):
        return count
    quantile = float(special.stdtrit(n - 1, (1 + confidence) / 2))
    return min(n, mean * (1 - mean) * quantile**2 / half**2) if half else n


def _clustered(values: list[float], labels: list[Any], confidence: float) -> tuple[float, float | None]:
    """Mean and half width of its t interval; the width is None for a single cluster."""
    mean = math.fsum(values) / len(values)
    count = len(set(labels))
    if count < 2:
        return mean, None
    return mean, float(special.stdtrit(count - 1, (1 + confidence) / 2)) * _standard_error(values, labels, mean)


def _standard_error(values: list[float], labels: list[Any], mean: float) -> float:
    """`fsum` is exact, so that the order of the rows does not touch the last bit."""
    groups: dict[Any, list[float]] = {}
    for value, label in zip(values, labels, strict=True):
        groups.setdefault(label, []).append(value - mean)
    count = len(groups)
    squares = math.fsum(math.fsum(residuals) ** 2 for residuals in groups.values())
    return math.sqrt(count / (count - 1) * squares) / len(values)


def clopper_pearson(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a proportion, k of n (for effective sizes not whole numbers)."""
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else float(special.betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 1 - tail))
    return low, high


# -- ratios ----------------------------------------------------------------------------------------------------------


def _ratio(metric: Metric, rows: Sequence[Row], labels: list[Any], confidence: float) -> tuple[float | None, ...]:
    names = _columns(metric, rows)
    sums = cluster_sums((_parts(row, names) for row in rows), labels)
    value = ratio_of_totals(metric, sums) if len(sums) else None
    if value is None or len(sums) < 2:
        return value, None, None
    drawn = bootstrap(sums, lambda total: ratio(metric, total))
    return value, *percentiles(drawn, confidence)


def _columns(metric: Metric, rows: Sequence[Row]) -> list[str]:
    """The keys that a ratio is made of: num, den, and so on for every suffix that some row has."""
    if not metric.macro:
        return [metric.num, metric.den]
    pairs = [(f"{metric.num}@{suffix}", f"{metric.den}@{suffix}") for suffix in metric.macro]
    return [key for pair in pairs if any(pair[1] in row for row in rows) for key in pair]


def _parts(row: Row, names: Sequence[str]) -> tuple[float, ...]:
    return tuple([row.get(name) or 0.0 for name in names])  # a list first: this runs for every row and metric


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
    pairs = [(rows_a[i], rows_b[i]) for i in used]
    compare = _paired_ratio if metric.kind == "ratio" else _paired_mean
    value, low, high, p, test = compare(metric, pairs, labels, confidence)
    significant = p is not None and p < 1 - confidence
    missing = _missing(metric, rows_a, used)
    return Difference(value, low, high, p, len(used), len(set(labels)), test, significant, missing)


Compared = tuple[float | None, float | None, float | None, float | None, str]


def _paired_mean(metric: Metric, pairs: list[tuple[Row, Row]], labels: list[Any], confidence: float) -> Compared:
    if not pairs:
        return None, None, None, None, "none"
    values = [(float(a[metric.name]), float(b[metric.name])) for a, b in pairs]
    differences = [a - b for a, b in values]
    mean, half = _clustered(differences, labels, confidence)
    if half is None:
        return mean, None, None, None, "none"
    count = len(set(labels))
    low, high = mean - half, mean + half
    p = _t_test(mean, _standard_error(differences, labels, mean), count)
    test = "clustered t"
    binary = metric.percent and all(x in (0.0, 1.0) for pair in values for x in pair)
    if len(set(differences)) == 1 and (binary or (metric.percent and mean == 0)):
        low, high = _all_equal(mean, count, confidence)
    if binary and count == len(pairs):
        low, high, p = _mcnemar(differences, (low, high), confidence)
        test = "exact McNemar"
    if p >= 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    if metric.percent:
        low, high = max(low, -1.0), min(high, 1.0)
    return mean, low, high, p, test


def _t_test(mean: float, error: float, count: int) -> float:
    if error <= 1e-12 * abs(mean):  # all clusters agree: the sign test is all that is left
        return 1.0 if mean == 0 else 2.0 ** (1 - count)
    return float(2 * special.stdtr(count - 1, -abs(mean) / error))


def _all_equal(value: float, count: int, confidence: float) -> tuple[float, float]:
    """What `count` equal outcomes can exclude: others have at most the probability `rest`, and are -1 or 1 at worst."""
    rest = 1 - clopper_pearson(count, count, confidence)[0]
    return value - rest * (1 + value), value + rest * (1 - value)


def _mcnemar(differences: list[float], interval: tuple[float, float], confidence: float) -> tuple[float, float, float]:
    """Exact p of the discordant pairs, and `interval` widened to the one that belongs to this test."""
    wins, losses = differences.count(1.0), differences.count(-1.0)
    discordant = wins + losses
    if not discordant:
        return *interval, 1.0
    scale = discordant / len(differences)
    low, high = ((2 * bound - 1) * scale for bound in clopper_pearson(wins, discordant, confidence))
    p = min(1.0, 2 * float(special.bdtr(min(wins, losses), discordant, 0.5)))
    return min(low, interval[0]), max(high, interval[1]), p


def _paired_ratio(metric: Metric, pairs: list[tuple[Row, Row]], labels: list[Any], confidence: float) -> Compared:
    names = _columns(metric, [row for pair in pairs for row in pair])
    half = len(names)
    sums = cluster_sums(((*_parts(a, names), *_parts(b, names)) for a, b in pairs), labels)
    if not len(sums):
        return None, None, None, None, "none"
    a = ratio_of_totals(metric, sums[:, :half])
    b = ratio_of_totals(metric, sums[:, half:])
    if a is None or b is None or not math.isfinite(a - b):
        return None, None, None, None, "none"
    if len(sums) < 2:
        return a - b, None, None, None, "none"
    drawn = bootstrap(sums, lambda total: ratio(metric, total[:, :half]) - ratio(metric, total[:, half:]))
    return a - b, *percentiles(drawn, confidence), two_sided_p(drawn), "cluster bootstrap"


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
