"""A number made of sums over clusters, its standard error, and how many degrees of freedom that error has.

Every metric here is a ratio of two sums, or a mean of such ratios: a mean is the sum of the values over their count, a
perplexity exp(sum nll / sum tokens), a macro F1 the mean of one ratio per split. Clusters (documents, images) are
independent of each other; of the rows inside one nothing is assumed.

* Linearised (delta method), cluster g moves a ratio R = N / D by `(n_g - R d_g) / D`.
* The square root of the sum of their squares is the usual cluster-robust error. It is too small when clusters are few or
  unequal, as R was fitted to them; CR2 divides each square by `1 - w_g`, with the cluster's share `w_g = d_g / D`
  (Bell and McCaffrey, Survey Methodology 28, 2002; Cameron and Miller, Journal of Human Resources 50, 2015).
* The error is itself estimated. Satterthwaite's degrees of freedom are those of the chi-squared variable with its mean and
  variance, `2 E[V]^2 / Var[V]`, under a working model of how much clusters scatter (Bell and McCaffrey; Imbens and Kolesar,
  Review of Economics and Statistics 98, 2016). In the model here half of the scatter comes from the rows by themselves
  (variance of a cluster's sum proportional to its size) and half from what they share (to its square); ratios that are
  averaged or subtracted are taken as independent. For G equal clusters it gives G - 1, for unequal ones less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.contracts.metric import Metric

ALONE = 1e-12  # a cluster that leaves less than this share to the others has the ratio to itself


@dataclass(frozen=True)
class Estimated:
    """`error`: standard error, 0 where all clusters agree. `df`: its degrees of freedom, 0 where there are none.
    `effective`: the number of equal clusters that would weigh as these do, 1 / sum of squared shares (Kish, 1965).
    """

    value: float
    error: float
    df: float
    effective: float


def cluster_sums(parts: Iterable[tuple[float, ...]], labels: list[Any]) -> np.ndarray:
    """Sums per cluster `[G, parts]`, in an order that depends on the sums alone."""
    groups: dict[Any, list[tuple[float, ...]]] = {}
    for part, label in zip(parts, labels, strict=True):
        groups.setdefault(label, []).append(part)
    sums = sorted(tuple(math.fsum(column) for column in zip(*group, strict=True)) for group in groups.values())
    return np.array(sums, dtype=np.float64)


@dataclass(frozen=True)
class Ratios:
    """A metric as a mean of ratios. `value`: the mean. Of each ratio, `[ratios]`: its own value, `slopes` (what the mean gains
    from it) and `totals` (its denominator); of each cluster in it, `[G, ratios]`: `parts` and `shares` of numerator and
    denominator, relative to the total denominator. A ratio without a value has zeros.
    """

    value: float
    own: np.ndarray
    slopes: np.ndarray
    totals: np.ndarray
    parts: np.ndarray
    shares: np.ndarray

    def moves(self) -> np.ndarray:
        """What each cluster moves the value by, with CR2's factor: `[G]`."""
        rest = np.where(1 - self.shares > ALONE, 1 - self.shares, np.inf)  # a ratio of one cluster cannot scatter
        return (self.slopes * (self.parts - self.own * self.shares) / np.sqrt(rest)).sum(axis=1)

    def weight(self) -> np.ndarray:
        """Each cluster's share, averaged over the ratios that have a value: `[G]`, of sum 1."""
        known = self.totals != 0
        return self.shares[:, known].mean(axis=1) if known.any() else np.full(len(self.shares), 1 / len(self.shares))


def ratios(metric: Metric, sums: np.ndarray) -> Ratios | None:
    """`metric` from cluster sums `[G, 2 * ratios]` (num, den, num, den, ...); None if it has no value.

    A ratio whose denominator is 0 counts as `metric.undefined`, or is left out of the mean. A value that overflows is infinite.
    """
    num, den = sums[:, 0::2], sums[:, 1::2]
    totals = np.array([math.fsum(column) for column in den.T])
    known = totals != 0
    constants = [] if metric.undefined is None else [metric.undefined] * int((~known).sum())
    count = int(known.sum()) + len(constants)
    if not count:
        return None
    safe = np.where(known, totals, 1.0)
    own = np.array([math.fsum(column) for column in num.T]) / safe * known
    with np.errstate(over="ignore"):
        values = np.exp(own) if metric.transform == "exp" else own
    slopes = (values if metric.transform == "exp" else np.ones_like(own)) * known / count
    value = math.fsum([*values[known], *constants]) / count
    return Ratios(value, own, slopes, totals * known, num / safe * known, den / safe * known)


def estimated(a: Ratios, b: Ratios | None = None) -> Estimated:
    """The value of `a`, or the difference `a - b` of two metrics over the same clusters."""
    sides = [a] if b is None else [a, b]
    if not all(math.isfinite(side.value) for side in sides):
        return Estimated(a.value, 0.0, 0.0, 0.0)
    value = a.value if b is None else a.value - b.value
    moves = a.moves() if b is None else a.moves() - b.moves()
    error = math.sqrt(math.fsum(moves * moves))
    noise = 1e-12 * max(abs(side.value) for side in sides)  # what rounding leaves of clusters that agree
    weight = np.mean([side.weight() for side in sides], axis=0)
    known = [side.totals != 0 for side in sides]
    shares = np.concatenate([side.shares[:, k] for side, k in zip(sides, known, strict=True)], axis=1)
    variances = [side.slopes[k] ** 2 / side.totals[k] for side, k in zip(sides, known, strict=True)]
    df = _satterthwaite(shares, np.concatenate(variances))
    return Estimated(value, 0.0 if error <= noise else error, df, 1 / math.fsum(weight * weight))


@dataclass(frozen=True)
class Changes:
    """A difference as gains minus losses of clusters, and the correlation of the two."""

    gains: Estimated
    losses: Estimated
    correlation: float


def changes(a: Ratios, b: Ratios, difference: Estimated) -> Changes:
    """Where `a` is above `b` and where below: each cluster's part in the difference has one sign.

    The parts are those under the hypothesis that both methods have the same ratio, the mean of the two.
    """
    middle = (a.own + b.own) / np.where((a.totals != 0) & (b.totals != 0), 2, 1)
    part = sum(sign * (x.slopes * (x.parts - middle * x.shares)).sum(axis=1) for sign, x in ((1, a), (-1, b)))
    weight = (a.weight() + b.weight()) / 2
    rest = np.sqrt(np.where(1 - weight > ALONE, 1 - weight, np.inf))
    found, moved = [], []
    for sign in (1, -1):
        own = np.maximum(sign * part, 0.0)
        total = math.fsum(own)
        moves = (own - total * weight) / rest
        error = math.sqrt(math.fsum(moves * moves))
        found.append(Estimated(total, 0.0 if error <= 1e-12 * total else error, difference.df, difference.effective))
        moved.append(moves)
    scale = found[0].error * found[1].error
    correlation = math.fsum(moved[0] * moved[1]) / scale if scale else 0.0
    return Changes(found[0], found[1], max(-1.0, min(1.0, correlation)))


def _satterthwaite(shares: np.ndarray, weights: np.ndarray) -> float:
    """tr(K)^2 / tr(K^2) for the covariance `K` `[G, G]` of the moves under the working model.

    For one ratio `K = A (I - w 1') S (I - 1 w') A` with `A = diag(1 / sqrt(1 - w))` and the model's variances `S`; that is a
    diagonal and two columns, `diag + Z B Z'`, so that K itself, which may have 10^8 entries, is never made.
    """
    if not shares.size or shares.max() >= 1 - ALONE or shares.min() < 0:
        return 0.0
    scatter = (shares + shares**2 / (shares**2).sum(axis=0)) / 2  # of each ratio sums to 1
    factor = 1 / np.sqrt(1 - shares)
    diagonal = (weights * factor**2 * scatter).sum(axis=1)
    z = np.concatenate([factor * shares, factor * scatter], axis=1)
    r = np.arange(len(weights))
    b = np.zeros((2 * len(r), 2 * len(r)))
    b[r, r], b[r, r + len(r)], b[r + len(r), r] = weights, -weights, -weights
    inner = b @ np.einsum("gi,gj->ij", z, z)  # einsum: the last bit of BLAS depends on its threads
    trace = diagonal.sum() + np.trace(inner)
    cross = np.trace(b @ np.einsum("gi,g,gj->ij", z, diagonal, z))
    return float(trace**2 / ((diagonal**2).sum() + 2 * cross + np.trace(inner @ inner)))
