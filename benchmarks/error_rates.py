"""How often the statistics err: simulated error of every test that marks a difference, and coverage of every 95 % interval.

    python benchmarks/error_rates.py                                   # all cases, 2,000 runs each: ten minutes of one core
    python benchmarks/error_rates.py --metric perplexity --sizes giant --clusters 8 --runs 1000
    python benchmarks/error_rates.py --rejected                        # what other methods do with data of the same kind

Each run draws three sets of answers to the same examples: A and B of the same mean, C of another. It hands their
rows to `aggregate` and `paired` and asks: does the test find a difference between A and B (`wrong`)? Does the interval of
A hold its truth (`value`), and that of C - A (`change`)? A case is a metric, the sizes of the clusters and their number; its
seed is made from its name, so that one alone repeats what it did among all. The output is the table of docs/statistics.md.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import special

from harness.analysis.clusters import cluster_sums, ratios
from harness.analysis.statistics import aggregate, paired
from harness.contracts.metric import Metric

CLUSTERS = (2, 3, 5, 6, 8, 10, 30)
Rows = list[dict[str, float]]
Random = np.random.Generator


# -- sizes of clusters -------------------------------------------------------------------------------------------------


def alone(count: int) -> list[int]:
    """No clusters: independent examples."""
    return [1] * count


def equal(count: int) -> list[int]:
    """Four examples each."""
    return [4] * count


def fading(count: int) -> list[int]:
    """Each a fifth smaller than the one before."""
    return [max(1, round(20 * 0.8**g)) for g in range(count)]


def halving(count: int) -> list[int]:
    """Each half of the one before: the first holds half of all examples."""
    return [max(1, round(4 * count * 0.5 ** (g + 1))) for g in range(count)]


def giant(count: int) -> list[int]:
    """One holds half of all examples, the others two each."""
    return [2 * (count - 1), *[2] * (count - 1)]


SIZES: dict[str, Callable[[int], list[int]]] = {f.__name__: f for f in (alone, equal, fading, halving, giant)}


# -- data --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Rows of A, B and C; `value`: the truth of A and B; `change`: that of C - A."""

    a: Rows
    b: Rows
    c: Rows
    value: float
    change: float


class Draw:
    """Random parts of one data set; `of[i]` is the cluster of example i."""

    def __init__(self, rng: Random, of: np.ndarray):
        self.rng, self.of, self.n = rng, of, len(of)

    def noise(self, own: float, shared: float) -> np.ndarray:
        """Normal, of each example and of each cluster."""
        return self.rng.normal(0, own, self.n) + self.rng.normal(0, shared, self.of.max() + 1)[self.of]

    def rate(self, mean: float, spread: float) -> np.ndarray:
        """A probability per example that is the same within a cluster, uniform around its mean."""
        return mean + self.rng.uniform(-spread, spread, self.of.max() + 1)[self.of]

    def luck(self) -> tuple[np.ndarray, np.ndarray]:
        """Uniform numbers for A and for B, the same for 7 of 10 examples: what is hard for one is hard for the other."""
        a = self.rng.random(self.n)
        return a, np.where(self.rng.random(self.n) < 0.7, a, self.rng.random(self.n))


def _rows(**columns: np.ndarray) -> Rows:
    return [dict(zip(columns, map(float, values), strict=True)) for values in zip(*columns.values(), strict=True)]


def numbers(draw: Draw) -> Data:
    base = 10 + draw.noise(1, 0.7)
    a, b, c = (_rows(x=base + shift + draw.noise(0.7, 0.5)) for shift in (0, 0, 0.5))
    return Data(a, b, c, 10, 0.5)


def skewed(draw: Draw) -> Data:
    """Like numbers, but exponential: most are small, a few large."""
    base = draw.rng.exponential(5, draw.n) + draw.rng.exponential(5, draw.of.max() + 1)[draw.of]
    a, b, c = (_rows(x=base + draw.rng.exponential(2 + shift, draw.n)) for shift in (0, 0, 1))
    return Data(a, b, c, 12, 1)


def lopsided(draw: Draw) -> Data:
    """Two methods of the same mean whose difference is exponential: A is often a little shorter and sometimes much longer."""
    base = 10 + draw.noise(1, 0.7)
    gap = draw.rng.exponential(1, draw.of.max() + 1)[draw.of] - 1
    return Data(_rows(x=base + gap), _rows(x=base), _rows(x=base + gap + draw.rng.normal(0.5, 1, draw.n)), 10, 0.5)


def accuracy(draw: Draw) -> Data:
    rate, luck = draw.rate(0.7, 0.15), draw.luck()
    a, b = (u < rate + draw.rate(0, 0.15) for u in luck)
    return Data(_rows(x=a), _rows(x=b), _rows(x=a & (draw.rng.random(draw.n) > 0.15)), 0.7, -0.105)


def rare(draw: Draw) -> Data:
    """Answers that are nearly always right, of which a method changes one in fifty."""
    base = draw.rng.random(draw.n) < draw.rate(0.96, 0.04)
    a, b, lost = (base & (draw.rng.random(draw.n) > p) for p in (0.02, 0.02, 0.05))
    return Data(_rows(x=a), _rows(x=b), _rows(x=a & lost), 0.96 * 0.98, -0.05 * 0.96 * 0.98)


def scores(draw: Draw) -> Data:
    """Shares of three questions."""
    parts = [accuracy(draw) for _ in range(3)]
    a, b, c = (_rows(x=np.mean([[r["x"] for r in getattr(p, side)] for p in parts], axis=0)) for side in "abc")
    return Data(a, b, c, 0.7, -0.105)


def perplexity(draw: Draw) -> Data:
    tokens = draw.rng.integers(50, 150, draw.n).astype(float)
    base = 2 + draw.noise(0.3, 0.2)
    sides = [_rows(num=tokens * (base + shift + draw.noise(0.1, 0.05)), den=tokens) for shift in (0, 0, 0.1)]
    return Data(*sides, value=math.exp(2), change=math.exp(2.1) - math.exp(2))


def _f1(draw: Draw, suffixes: Sequence[str]) -> Data:
    positive, luck = draw.rng.random(draw.n) < 0.5, draw.luck()
    hit, false = draw.rate(0.85, 0.07), draw.rate(0.15, 0.07)
    yes = [u < np.where(positive, hit, false) + draw.rate(0, 0.07) for u in luck]
    yes.append(yes[0] & ~(positive & (draw.rng.random(draw.n) < 0.1)))
    sides = []
    for said in yes:
        counts = _rows(num=2.0 * (said & positive), den=said.astype(float) + positive)
        names = [suffixes[i % len(suffixes)] for i in range(draw.n)]
        sides.append([{f"{k}{name}": v for k, v in row.items()} for row, name in zip(counts, names, strict=True)])
    return Data(*sides, value=0.85, change=0.765 / 0.9575 - 0.85)


def f1(draw: Draw) -> Data:
    return _f1(draw, [""])


def macro_f1(draw: Draw) -> Data:
    """The mean over three sets of questions, each cluster asked some of each."""
    return _f1(draw, ["@a", "@b", "@c"])


def hallucinated(draw: Draw) -> Data:
    """CHAIR_i: which share of the objects in a caption is not in the picture?"""
    named = 1 + draw.rng.poisson(4, draw.n)
    rate = draw.rate(0.2, 0.08)
    sides = [
        _rows(num=draw.rng.binomial(named, rate + draw.rate(shift, 0.05)), den=named.astype(float))
        for shift in (0, 0, 0.1)
    ]
    return Data(*sides, value=0.2, change=0.1)


PERCENT, RATIO = Metric("x"), Metric("x", "ratio", "num", "den", undefined=0.0)
METRICS: dict[str, tuple[Metric, Callable[[Draw], Data]]] = {
    "numbers": (Metric("x", percent=False), numbers),
    "accuracy": (PERCENT, accuracy),
    "rare": (PERCENT, rare),
    "scores": (PERCENT, scores),
    "perplexity": (Metric("x", "ratio", "num", "den", transform="exp", percent=False), perplexity),
    "f1": (RATIO, f1),
    "macro_f1": (Metric("x", "ratio", "num", "den", macro=("a", "b", "c"), undefined=0.0), macro_f1),
    "hallucinated": (RATIO, hallucinated),
    "skewed": (Metric("x", percent=False), skewed),
    "lopsided": (Metric("x", percent=False), lopsided),
}
BEYOND = ("skewed", "lopsided")  # shown for what no test can do with few clusters, not promised


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    metric: str
    sizes: str
    clusters: int

    @property
    def command(self) -> str:
        """What repeats this case."""
        return (
            f"python benchmarks/error_rates.py --metric {self.metric} --sizes {self.sizes} --clusters {self.clusters}"
        )

    def draws(self, runs: int) -> Iterator[tuple[Metric, Data, list[str] | None]]:
        """Metric, data and clusters of every run."""
        rng = np.random.default_rng(zlib.crc32(self.command.encode()))
        metric, make = METRICS[self.metric]
        sizes = SIZES[self.sizes](self.clusters)
        of = np.repeat(np.arange(len(sizes)), sizes)
        names = None if self.sizes == "alone" else [f"c{g}" for g in of]
        for _ in range(runs):
            yield metric, make(Draw(rng, of)), names


@dataclass(frozen=True)
class Rates:
    """Counts over `runs`: tests made and wrong ones; intervals given and those that hold the truth."""

    runs: int
    tested: int
    wrong: int
    values: int
    value_held: int
    changes: int
    change_held: int


def measure(case: Case, runs: int) -> Rates:
    """Simulate one case."""
    counts = [0] * 6
    for metric, data, names in case.draws(runs):
        test, one = paired(metric, data.a, data.b, names), aggregate(metric, data.a, names)
        change = paired(metric, data.c, data.a, names)
        counts[0] += test.p is not None
        counts[1] += test.significant
        for at, got, truth in ((2, one, data.value), (4, change, data.change)):
            if got.low is not None and got.high is not None:
                counts[at] += 1
                counts[at + 1] += got.low <= truth <= got.high
    return Rates(runs, *counts)


def cases(metrics: Sequence[str] = (), sizes: Sequence[str] = (), clusters: Sequence[int] = ()) -> list[Case]:
    """All cases, or those with the names given."""
    return [Case(m, s, c) for m in metrics or METRICS for s in sizes or SIZES for c in clusters or CLUSTERS]


# -- what was rejected -------------------------------------------------------------------------------------------------


def others(case: Case, runs: int) -> dict[str, float]:
    """Share of wrong differences of other tests on one case (a metric that is one ratio)."""
    wrong = {"percentile bootstrap": 0, "CR1, t with G-1": 0, "CR2, rows independent": 0}
    for metric, data, names in case.draws(runs):
        columns = ["x"] if metric.kind == "mean" else [metric.num, metric.den]
        labels = names or list(range(len(data.a)))
        parts = [[*(a[k] for k in columns), *(b[k] for k in columns)] for a, b in zip(data.a, data.b, strict=True)]
        if metric.kind == "mean":
            parts = [[a, 1.0, b, 1.0] for a, b in parts]
        for name, p in zip(wrong, _others(metric, cluster_sums(map(tuple, parts), labels)), strict=True):
            wrong[name] += p < 0.05
    return {name: count / runs for name, count in wrong.items()}


def _others(metric: Metric, sums: np.ndarray) -> list[float]:
    """p of: percentiles of 999 resamples of the clusters; CR1 (Student's t, G - 1); CR2 with Bell and McCaffrey's own df."""
    count = len(sums)
    rng = np.random.default_rng(0)
    totals = np.einsum("rg,gp->rp", rng.multinomial(count, np.full(count, 1 / count), 999).astype(float), sums)
    with np.errstate(all="ignore"):
        drawn = totals[:, 0] / totals[:, 1], totals[:, 2] / totals[:, 3]
        gaps = np.exp(drawn[0]) - np.exp(drawn[1]) if metric.transform == "exp" else drawn[0] - drawn[1]
    share = (1 + min((gaps <= 0).sum(), (gaps >= 0).sum())) / 1000
    a, b = ratios(metric, sums[:, :2]), ratios(metric, sums[:, 2:])
    if a is None or b is None:
        return [1.0] * 3
    gap, w = abs(a.value - b.value), a.shares[:, 0]
    moves = a.moves() - b.moves()
    plain = a.moves() * np.sqrt(1 - w) - b.moves() * np.sqrt(1 - b.shares[:, 0])
    cr1, cr2 = math.sqrt(count / (count - 1) * (plain**2).sum()), math.sqrt((moves**2).sum())
    rest = np.maximum(1 - w, 1e-12)  # one cluster may have all of a denominator
    d, q = w / rest, w**2 / rest
    df = 1 / ((d**2).sum() - 2 * (d * q).sum() + q.sum() ** 2)
    ts = ((count - 1, cr1), (df, cr2))
    return [min(1.0, 2 * share), *(2 * float(special.stdtr(f, -gap / error)) if error else 1.0 for f, error in ts)]


# -- the table ---------------------------------------------------------------------------------------------------------


def table(found: dict[Case, str]) -> Iterator[str]:
    """Markdown: a row for each metric and kind of clusters, a column for each number of clusters."""
    counts = sorted({case.clusters for case in found})
    yield f"| data | clusters | {' | '.join(f'G = {count}' for count in counts)} |"
    yield f"|---|---|{'---|' * len(counts)}"
    for metric, sizes in dict.fromkeys((case.metric, case.sizes) for case in found):
        yield f"| {metric} | {sizes} | {' | '.join(found[Case(metric, sizes, count)] for count in counts)} |"


def _cell(r: Rates) -> str:
    """`wrong / value / change` in percent. A dash where it cannot be told in nine of ten runs; `wrong` counts such runs as not wrong."""
    wrong = f"{100 * r.wrong / r.runs:.1f}" if r.tested else "-"
    held = (
        f"{100 * held / given:.1f}" if given > r.runs / 10 else "-"
        for held, given in ((r.value_held, r.values), (r.change_held, r.changes))
    )
    return " / ".join([wrong, *held])


def main() -> None:
    parser = argparse.ArgumentParser(description="simulated error rates of the tests and intervals")
    parser.add_argument("--metric", action="append", choices=METRICS)
    parser.add_argument("--sizes", action="append", choices=SIZES)
    parser.add_argument("--clusters", action="append", type=int)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rejected", action="store_true", help="error rates of other tests instead")
    options = parser.parse_args()
    chosen = cases(options.metric or (), options.sizes or (), options.clusters or ())
    if options.rejected:
        chosen = [case for case in chosen if case.metric != "macro_f1"]
    with ProcessPoolExecutor(options.jobs) as pool:
        rates = pool.map(partial(others if options.rejected else measure, runs=options.runs), chosen)
        told = [_cell(r) if isinstance(r, Rates) else " / ".join(f"{100 * v:.1f}" for v in r.values()) for r in rates]
    print("\n".join(table(dict(zip(chosen, told, strict=True)))))


if __name__ == "__main__":
    main()
