"""The cluster bootstrap behind ratio metrics: clusters are drawn with replacement, 1000 times, from a fixed seed.

Measured coverage of the 95 % percentile interval of a perplexity (1000 simulations): 0.90 with 10 clusters, 0.94 with
60, 0.93 with 200: below ten clusters it is too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from harness.contracts.task import Metric

RESAMPLES = 1000
SEED = 20240229
CHUNK = 2_000_000  # drawn indices held in memory at once


def cluster_sums(parts: Iterable[tuple[float, ...]], labels: list[Any]) -> np.ndarray:
    """Sums per cluster `[G, parts]`, in an order that depends on the sums alone."""
    groups: dict[Any, list[tuple[float, ...]]] = {}
    for part, label in zip(parts, labels, strict=True):
        groups.setdefault(label, []).append(part)
    sums = sorted(tuple(math.fsum(column) for column in zip(*group, strict=True)) for group in groups.values())
    return np.array(sums, dtype=np.float64)


def bootstrap(sums: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`statistic` of totals `[resamples, parts]` of clusters drawn with replacement, where it has a value."""
    result = statistic(np.concatenate([_totals(times, sums) for times in _draws(len(sums))]))
    return result[~np.isnan(result)]


def _draws(count: int) -> Iterable[np.ndarray]:
    """How often each of `count` clusters is drawn: `[resamples, count]`, in portions that fit into memory."""
    return (_few(count),) if RESAMPLES * count <= CHUNK else _drawn(count)


@lru_cache(maxsize=2)
def _few(count: int) -> np.ndarray:
    """Kept, as all metrics of a task resample the same number of clusters."""
    return next(_drawn(count))


def _drawn(count: int) -> Iterator[np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(SEED))
    step = max(1, CHUNK // count)
    for start in range(0, RESAMPLES, step):
        drawn = rng.integers(0, count, size=(min(step, RESAMPLES - start), count))
        index = drawn + count * np.arange(len(drawn))[:, None]
        yield np.bincount(index.ravel(), minlength=index.size).reshape(index.shape).astype(np.float64)


def _totals(times: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Totals of the clusters drawn; infinite where one of them is. Not by BLAS, whose last bit depends on threads."""
    infinite = np.isinf(sums)
    columns = np.ascontiguousarray(np.where(infinite, 0.0, sums).T)
    totals = np.einsum("rg,pg->rp", times, columns)
    return np.where(times @ infinite > 0, np.inf, totals) if infinite.any() else totals


def percentiles(drawn: np.ndarray, confidence: float) -> tuple[float | None, float | None]:
    """The interval that the resamples leave after cutting both tails; without resamples none."""
    if not len(drawn):
        return None, None
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def ratio_of_totals(metric: Metric, sums: np.ndarray) -> float | None:
    """`ratio` of the totals of all clusters; None if it has no value."""
    value = float(ratio(metric, sums.sum(axis=0, keepdims=True))[0])
    return None if math.isnan(value) else value


def ratio(metric: Metric, totals: np.ndarray) -> np.ndarray:
    """num / den, transformed, and averaged over pairs of columns: `[n, 2 * pairs]` (num, den, num, den, ...) to `[n]`.

    A pair whose den is 0 counts as `metric.undefined`, or is left out of the average; NaN where nothing is left.
    """
    num, den = totals[:, 0::2], totals[:, 1::2]
    with np.errstate(all="ignore"):
        value = np.where(den == 0, np.nan, num / den)
        value = np.exp(value) if metric.transform == "exp" else value
        if metric.undefined is not None:
            value = np.where(den == 0, metric.undefined, value)
        known = ~np.isnan(value)
        return np.where(known, value, 0.0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)


def two_sided_p(drawn: np.ndarray) -> float:
    """Two-sided: twice the smaller share of resamples beyond 0, never below what this many resamples can show."""
    if not len(drawn):
        return 1.0
    share = (1 + min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))) / (1 + len(drawn))
    return min(1.0, 2 * share)
