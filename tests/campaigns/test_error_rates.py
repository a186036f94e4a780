"""The statistics err as rarely as they say: simulated on all kinds of data, sizes and numbers of clusters."""

from __future__ import annotations

import pytest
from scipy import special

from benchmarks.error_rates import BEYOND, METRICS, Case, Rates, cases, measure, others
from harness.analysis.statistics import paired
from tests.campaigns import FULL

pytestmark = pytest.mark.slow

RUNS = 2000 if FULL else 250
CLUSTERS = (2, 3, 5, 6, 8, 10, 30) if FULL else (3, 6, 10)
PROMISED = [metric for metric in METRICS if metric not in BEYOND]


def too_often(wrong: int, runs: int, rate: float) -> bool:
    """Whether so many of `runs` are beyond chance where each is one with probability `rate` (once in 10,000 cases)."""
    return wrong > 0 and float(special.bdtrc(wrong - 1, runs, rate)) < 1e-4


def problems(r: Rates) -> list[str]:
    """What one case may not do: find differences that are not there in more than 6 % of the runs, miss the truth in more than 7 %."""
    found = []
    if too_often(r.wrong, r.runs, 0.06):
        found.append(f"{r.wrong} of {r.runs} tests find a difference where there is none")
    for name, held, given in (("values", r.value_held, r.values), ("differences", r.change_held, r.changes)):
        if too_often(given - held, given, 0.07):
            found.append(f"{given - held} of {given} intervals of {name} miss the truth")
    return found


@pytest.mark.parametrize("metric", PROMISED)
def test_tests_and_intervals_hold_their_level(metric):
    found = {case: measure(case, RUNS) for case in cases([metric], clusters=CLUSTERS)}
    wrong = [
        f"{text}: {case.command} --runs {RUNS}"
        for case, r in found.items()
        if case.clusters >= 5
        for text in problems(r)
    ]
    assert not wrong, "\n".join(wrong)
    tested = [r for r in found.values() if r.tested]
    assert sum(r.wrong for r in tested) <= 0.06 * sum(r.runs for r in tested), found


@pytest.mark.parametrize("clusters", [2, 3, 4, 5])
def test_fewer_than_six_clusters_are_never_evidence(clusters):
    for case in cases(clusters=[clusters]):
        rates = measure(case, 20)
        assert (rates.tested, rates.wrong) == (0, 0), case.command


def test_a_real_difference_is_found_where_the_clusters_allow_it():
    """A test that never speaks would hold its level, too."""
    for metric in ("numbers", "accuracy", "scores", "perplexity", "hallucinated"):
        found = 0
        for kind, data, names in Case(metric, "equal", 30).draws(60):
            found += paired(kind, data.c, data.a, names).significant
        assert found > 30, f"{metric}: {found} of 60"


def test_what_was_rejected_errs_far_more_often_on_the_same_data():
    few = others(Case("perplexity", "equal", 3), 100)
    assert few["percentile bootstrap"] > 0.15 and few["CR1, t with G-1"] < 0.15
    assert others(Case("numbers", "halving", 10), 100)["CR1, t with G-1"] > 0.1
