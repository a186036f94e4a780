"""The intervals cover what they claim, pairs find what single means miss, and nothing depends on order or on luck."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import stats

from harness.analysis.statistics import aggregate, beats, clopper_pearson, groups, paired
from harness.contracts.metric import Metric

ACC = Metric("accuracy")
TIME = Metric("seconds", percent=False, higher_is_better=False)
PPL = Metric("ppl", "ratio", num="nll", den="tokens", transform="exp", higher_is_better=False, percent=False)


def rows(values, name="accuracy"):
    return [{name: float(v)} for v in values]


def clustered(rng, groups_, size, spread=0.3):
    """Binary answers whose success rate varies between clusters; true mean 0.6."""
    rate = np.clip(0.6 + rng.uniform(-spread, spread, groups_), 0, 1)
    names = [f"doc{g}" for g in range(groups_) for _ in range(size)]
    return rng.random((groups_, size)) < rate[:, None], names


def ppl_rows(rng, n, shift=0.0):
    tokens = rng.integers(50, 150, n)
    return [{"nll": float(t * (2 + shift + rng.normal(0, 0.3))), "tokens": float(t)} for t in tokens]


# -- single means ----------------------------------------------------------------------------------------------------


def test_independent_values_give_the_textbook_interval():
    values = [1.0, 4.0, 2.5, 3.0, 7.0]
    got = aggregate(TIME, rows(values, "seconds"))
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert got.value == pytest.approx(3.5) and (got.low, got.high) == pytest.approx((low, high))
    assert (got.n, got.n_clusters, got.n_missing) == (5, 5, 0)


def test_a_worked_example_with_clusters():
    answers, names = [1, 1, 0, 0, 1, 0, 1, 0], ["a", "a", "b", "b", "c", "c", "d", "d"]
    got = aggregate(TIME, rows(answers, "seconds"), names)
    error = math.sqrt(4 / 3 * (1**2 + 1**2)) / 8  # cluster sums of residuals: 1, -1, 0, 0; a cluster's share is 1/4
    half = stats.t.ppf(0.975, 3) * error
    assert (got.low, got.high) == pytest.approx((0.5 - half, 0.5 + half))
    size = 0.25 / error**2 * (stats.t.ppf(0.975, 7) / stats.t.ppf(0.975, 3)) ** 2
    assert size < 8
    answered = aggregate(ACC, rows(answers), names)
    assert (answered.low, answered.high) == pytest.approx(clopper_pearson(size / 2, size))


def test_unequal_clusters_have_the_error_and_the_degrees_of_freedom_of_bell_and_mccaffrey():
    """Against the matrices of the definition: CR2's adjustment and Satterthwaite's moments, as a regression on a constant."""
    rng = np.random.default_rng(12)
    sizes = np.array([9, 5, 4, 4, 3, 2, 2, 1])
    values = rng.normal(size=sizes.sum())
    of = np.repeat(np.arange(len(sizes)), sizes)
    n, g = len(of), len(sizes)
    mean = values.mean()
    own = sizes / n
    sums = np.array([(values[of == i] - mean).sum() for i in range(g)])
    error = math.sqrt((sums**2 / (1 - own)).sum()) / n
    residual = np.eye(g) - np.outer(own, np.ones(g))  # a cluster's sum, less its share of the total
    model = np.diag(own + own**2 / (own**2).sum())
    spread = np.diag((1 - own) ** -0.5) @ residual @ model @ residual.T @ np.diag((1 - own) ** -0.5)
    df = np.trace(spread) ** 2 / np.trace(spread @ spread)
    assert 3 < df < 5.5
    got = aggregate(TIME, rows(values, "seconds"), [f"c{i}" for i in of])
    half = stats.t.ppf(0.975, df) * error
    assert (got.low, got.high) == pytest.approx((mean - half, mean + half))
    pair = paired(TIME, rows(values, "seconds"), rows(0 * values, "seconds"), [f"c{i}" for i in of])
    assert pair.error == pytest.approx(error) and pair.p == pytest.approx(2 * stats.t.sf(abs(mean) / error, df))


@pytest.mark.parametrize("clusters", [None, True])
def test_coverage_of_a_clustered_accuracy(clusters):
    rng = np.random.default_rng(1)
    hits, runs = 0, 600
    for _ in range(runs):
        answers, names = clustered(rng, 40, 5)
        got = aggregate(ACC, rows(answers.ravel()), names if clusters else None)
        hits += got.low <= 0.6 <= got.high
    if clusters:
        assert 0.93 <= hits / runs <= 0.985
    else:
        assert hits / runs < 0.93  # what ignoring the clusters would claim


@pytest.mark.parametrize("rate", [0.95, 0.5])
def test_coverage_of_an_accuracy_near_its_bound_and_far_from_it(rate):
    rng = np.random.default_rng(9)
    hits, runs = 0, 600
    for _ in range(runs):
        got = aggregate(ACC, rows(rng.random(100) < rate))
        hits += got.low <= rate <= got.high
    assert 0.94 <= hits / runs <= 0.99


def test_one_error_never_raises_the_lower_bound():
    bounds = [aggregate(ACC, rows([1] * (100 - k) + [0] * k)).low for k in range(100)]
    assert bounds == sorted(bounds, reverse=True)


@pytest.mark.parametrize("values", [[1, 0] * 20, [0.5] * 40, [1] * 40])
def test_agreeing_clusters_do_not_claim_certainty_each_is_one_answer(values):
    got = aggregate(ACC, rows(values), [f"image{i // 2}" for i in range(40)])
    assert (got.low, got.high) == pytest.approx(clopper_pearson(20 * sum(values) / 40, 20))


def test_three_equal_scores_leave_nearly_everything_open():
    got = aggregate(ACC, rows([1 / 3] * 3))
    assert (got.low, got.high) == pytest.approx(clopper_pearson(1, 3)) and got.high - got.low > 0.8


def test_one_of_eight_agreeing_clusters_with_half_of_the_rows_counts_as_half_of_all():
    names = ["big"] * 14 + [f"c{i // 2}" for i in range(14)]
    equal, unequal = (aggregate(ACC, rows([1] * 28), n) for n in ([f"c{i % 8}" for i in range(28)], names))
    assert unequal.low == pytest.approx(0.025 ** (1 / (1 / (0.5**2 + 7 * (0.5 / 7) ** 2))))
    assert unequal.low < 0.4 < 0.6 < equal.low


def test_coverage_of_a_perplexity():
    rng = np.random.default_rng(2)
    truth, runs = math.exp(2), 250
    hits = sum((e := aggregate(PPL, ppl_rows(rng, 60))).low <= truth <= e.high for _ in range(runs))
    assert 0.90 <= hits / runs <= 0.98


def test_coverage_of_a_paired_difference():
    rng = np.random.default_rng(3)
    hits, false_alarms, runs = 0, 0, 400
    for _ in range(runs):
        base = rng.random(80)
        a, b = base < 0.55, (base + rng.normal(0, 0.1, 80)) < 0.55
        got = paired(ACC, rows(a), rows(b))
        truth = 0.55 - _rate(0.1)
        hits += got.low <= truth <= got.high
        same = paired(ACC, rows(rng.random(80) < 0.5), rows(rng.random(80) < 0.5))
        false_alarms += same.significant
    assert hits / runs >= 0.93 and false_alarms / runs <= 0.065


def _rate(noise):
    """P(uniform + normal(0, noise) < 0.55)."""
    x = np.linspace(0, 1, 20001)
    return float(np.mean(stats.norm.cdf((0.55 - x) / noise)))


def test_positive_correlation_widens_the_interval():
    rng = np.random.default_rng(4)
    for _ in range(20):
        answers, names = clustered(rng, 40, 10, spread=0.35)
        alone, together = aggregate(ACC, rows(answers.ravel())), aggregate(ACC, rows(answers.ravel()), names)
        assert together.high - together.low > alone.high - alone.low


def test_copies_of_the_same_answer_add_nothing():
    values = [1, 0, 1, 1, 0, 1, 0, 1]
    names = [f"c{i}" for i in range(8)] * 3
    once, thrice = (aggregate(TIME, rows(v, "seconds"), names[: len(v)]) for v in (values, values * 3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high)) and thrice.n_clusters == 8
    once, thrice = (aggregate(ACC, rows(v), names[: len(v)]) for v in (values, values * 3))
    assert thrice.low <= once.low and thrice.high >= once.high


@pytest.mark.parametrize("metric", [ACC, PPL, TIME])
def test_nothing_and_one(metric):
    empty = aggregate(metric, [])
    assert (empty.value, empty.low, empty.high, empty.n) == (None, None, None, 0)
    one = aggregate(metric, [{"accuracy": 1.0, "seconds": 1.0, "nll": 0.0, "tokens": 1.0}])
    assert (one.value, one.low, one.high, one.n) == (1.0, None, None, 1)
    pair = [{"accuracy": 1.0, "seconds": 1.0, "nll": 0.0, "tokens": 1.0}]
    for got in (paired(metric, [], []), paired(metric, pair, pair)):
        assert (got.low, got.high, got.p, got.significant, got.test) == (None, None, None, False, "none")
    cluster = aggregate(metric, pair * 4, ["same"] * 4)
    assert (cluster.n, cluster.n_clusters, cluster.low) == (4, 1, None)


@pytest.mark.parametrize(("n", "low"), [(2, 0.1581), (20, 0.8316), (100, 0.9638)])
def test_all_right_or_all_wrong_has_the_exact_interval(n, low):
    right, wrong = aggregate(ACC, rows([1] * n)), aggregate(ACC, rows([0] * n))
    assert (right.value, right.high) == (1.0, 1.0) and right.low == pytest.approx(low, abs=1e-4)
    assert (wrong.value, wrong.low) == (0.0, 0.0) and wrong.high == pytest.approx(1 - low, abs=1e-4)
    names = [f"c{i // 4}" for i in range(4 * n)]
    assert aggregate(ACC, rows([1] * 4 * n), names).low == pytest.approx(right.low)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 5), (5, 5), (37, 80), (990, 1000)])
def test_the_exact_interval_and_test_are_those_of_scipy(k, n):
    exact = stats.binomtest(k, n, 0.5)
    interval = exact.proportion_ci(0.95, method="exact")
    assert clopper_pearson(k, n) == pytest.approx((interval.low, interval.high), abs=1e-9)
    a, b = [1] * k + [0] * (n - k) + [1] * 7, [0] * k + [1] * (n - k) + [1] * 7
    assert paired(ACC, rows(a), rows(b)).p == pytest.approx(exact.pvalue, rel=1e-6)
    halves = [x * 0.5 for x in b]
    together, t = paired(TIME, rows(a, "seconds"), rows(halves, "seconds")), stats.ttest_rel(a, halves).pvalue
    assert together.p == pytest.approx(
        max(t, 2.0 ** (1 - n - 7)), rel=1e-6
    )  # never less than a sign test of as many pairs


def test_percentages_stay_between_0_and_1_and_other_numbers_do_not():
    assert 0 <= aggregate(ACC, rows([0, 0, 0.1])).low < 1e-9
    assert 0 <= aggregate(ACC, rows([0, 0, 0.1, 0, 0, 0])).low < 1e-3
    assert aggregate(TIME, rows([0, 0, 1, 0], "seconds")).low < 0


def test_missing_metrics_are_counted():
    got = aggregate(ACC, [{"accuracy": 1.0}, {}, {"accuracy": 0.0}, {"other": 1.0}])
    assert (got.value, got.n, got.n_missing) == (0.5, 2, 2)
    both = paired(ACC, [{"accuracy": 1.0}, {}, {"accuracy": 0.0}], [{"accuracy": 1.0}] * 3)
    assert (both.n, both.n_missing, both.value) == (2, 1, -0.5)
    assert aggregate(PPL, [{"nll": 1.0}]).n_missing == 1


def test_ratios_at_their_edges():
    assert aggregate(PPL, [{"nll": 0.0, "tokens": 0.0}] * 3).value is None
    empty = {"nll": 0.0, "tokens": 0.0}
    assert aggregate(PPL, [{"nll": 2.0, "tokens": 1.0}, empty]).value == pytest.approx(math.exp(2))
    huge = [{"nll": 1e6, "tokens": 1.0}] * 3
    assert aggregate(PPL, huge).value == math.inf and paired(PPL, huge, huge).value is None


# -- pairs -----------------------------------------------------------------------------------------------------------


def test_pairs_find_what_single_means_miss():
    rng = np.random.default_rng(5)
    hard = rng.normal(0, 3, 60)
    a, b = hard + 0.5 + rng.normal(0, 0.3, 60), hard + rng.normal(0, 0.3, 60)
    single_a, single_b = aggregate(TIME, rows(a, "seconds")), aggregate(TIME, rows(b, "seconds"))
    assert single_a.low < single_b.value < single_a.high
    got = paired(TIME, rows(a, "seconds"), rows(b, "seconds"))
    assert got.significant and got.low > 0 and got.test == "clustered t"
    c, d = ppl_rows(np.random.default_rng(6), 50, 0.02), ppl_rows(np.random.default_rng(6), 50)
    assert aggregate(PPL, c).low < aggregate(PPL, d).value < aggregate(PPL, c).high
    ratio = paired(PPL, c, d)
    assert ratio.significant and ratio.test == "clustered t" and ratio.low > 0


def test_accuracies_use_the_exact_test():
    a, b = [1] * 5 + [0] * 45, [0] * 50
    got = paired(ACC, rows(a), rows(b))
    assert got.test == "exact McNemar" and got.p == pytest.approx(2 * 0.5**5) and not got.significant
    assert got.low <= 0 < got.value  # the interval agrees with the test
    assert paired(ACC, rows([1] * 6 + [0] * 44), rows(b)).p == pytest.approx(2 * 0.5**6)
    names = [f"c{i // 2}" for i in range(50)]
    assert paired(ACC, rows(a), rows(b), names).test == "clustered t"
    assert paired(ACC, rows([0.5, 1, 0, 1, 1, 1]), rows([1, 1, 0, 1, 1, 1])).test == "clustered t"


@pytest.mark.parametrize("seed", range(40))
def test_interval_and_test_never_contradict_each_other(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 60))
    a, b = rng.random(n) < rng.random(), rng.random(n) < rng.random()
    for names in (None, [f"c{i // 3}" for i in range(n)]):
        for got in (paired(ACC, rows(a), rows(b), names), paired(ACC, rows(a * 0.5), rows(b), names)):
            if got.p is not None:
                assert got.significant == (not got.low <= 0 <= got.high), got
                assert got.p >= 2.0 ** (1 - got.n_clusters)
            if got.low is not None:
                assert got.low <= got.value <= got.high and got.low < got.high


def test_no_difference_in_few_pairs_is_not_certainty():
    same = rows([1, 0] * 10)
    got = paired(ACC, same, same)
    assert (got.value, got.p, got.significant) == (0.0, 1.0, False)
    assert got.high == pytest.approx(1 - clopper_pearson(20, 20)[0]) == pytest.approx(-got.low)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_fewer_than_six_clusters_are_no_evidence_whatever_they_say(n):
    for metric, name in ((ACC, "accuracy"), (TIME, "seconds")):
        for a in ([1.0] * n, [1 - 0.01 * i for i in range(n)]):
            for names in (None, [f"c{i // 3}" for i in range(3 * n)]):
                many = a if names is None else [x for x in a for _ in range(3)]
                got = paired(metric, rows(many, name), rows([0] * len(many), name), names)
                assert (got.p, got.significant, got.test) == (None, False, "none") and got.reason, got
                assert got.low is None or got.low <= 0 <= got.high


def test_p_is_never_below_what_exchanging_the_methods_in_each_changed_cluster_allows():
    steep = [1 + 0.001 * i for i in range(6)]
    got = paired(TIME, rows(steep, "seconds"), rows([0] * 6, "seconds"))
    assert got.p == 2**-5 and got.significant and got.low > 0  # Student's t says 1e-13
    five = paired(TIME, rows([*steep[:5], *[0] * 95], "seconds"), rows([0] * 100, "seconds"))
    assert five.p == 2**-4 and not five.significant and five.low <= 0  # Student's t says 0.03


def test_clusters_that_agree_have_no_interval_of_no_width():
    names = [f"c{i // 2}" for i in range(12)]
    half = paired(ACC, rows([1, 0] * 6), rows([0, 0] * 6), names)  # +1 and 0 in each of six clusters
    assert half.value == 0.5 and half.p == pytest.approx(2 * 1.5**-6) and half.low < 0 < 0.8 < half.high
    whole = paired(ACC, rows([1, 1] * 6), rows([0, 0] * 6), names)
    assert whole.p == pytest.approx(2**-5) and whole.significant and 0 < whole.low < 0.6 and whole.high == 1
    balanced = paired(ACC, rows([1, 0] * 6), rows([0, 1] * 6), names)  # +1 and -1
    assert (balanced.value, balanced.p) == (0.0, 1.0)
    assert (balanced.low, balanced.high) == pytest.approx((0.025 ** (1 / 6) - 1, 1 - 0.025 ** (1 / 6)))
    for metric, name in ((TIME, "seconds"), (PPL, "nll")):
        fixed = [{name: 2.0, "tokens": 1.0}] * 9
        same = paired(metric, fixed, [{name: 1.0, "tokens": 1.0}] * 9)
        assert (same.low, same.high, same.p, same.reason) == (None, None, None, "no spread")
        assert aggregate(metric, fixed).reason == "no spread" and aggregate(metric, fixed).low is None


RATE = Metric("rate", "ratio", num="hits", den="asked", undefined=0.0)


def test_a_ratio_near_its_bound_has_the_interval_of_as_many_answers():
    images = [{"hits": 9.0, "asked": 9.0} for _ in range(8)]
    assert (aggregate(RATE, images).low, aggregate(RATE, images).high) == pytest.approx((0.025 ** (1 / 8), 1.0))
    same = paired(RATE, images, images)
    assert (same.low, same.high) == pytest.approx((0.025 ** (1 / 8) - 1, 1 - 0.025 ** (1 / 8)))
    one = aggregate(RATE, [{"hits": 8.0, "asked": 9.0}, *images[1:]])  # as wide as for 72 answers, not for 8 means
    assert (one.low, one.high) == pytest.approx(clopper_pearson(71, 72), abs=0.02) and one.high < 1


def test_what_nothing_divided_by_nothing_counts_as_is_no_estimate():
    got = aggregate(RATE, [{"hits": 0.0, "asked": 0.0}] * 9)
    assert (got.value, got.low, got.high) == (0.0, None, None)


def test_few_changed_answers_leave_room_on_both_sides():
    """One answer of thirty lost: the losses may be as frequent as Clopper and Pearson say, and there may be gains."""
    got = paired(ACC, rows([0] + [1] * 29), rows([1] * 30))
    assert got.p == 1.0 and got.low == pytest.approx(-clopper_pearson(1, 30)[1], abs=1e-3)
    assert got.high == pytest.approx(0.0869, abs=1e-3) and got.test == "exact McNemar"


def test_one_cluster_that_outweighs_the_others_is_few_clusters():
    rng = np.random.default_rng(13)
    names = ["big"] * 100 + [f"c{i}" for i in range(30)]
    values = rng.normal(1, 1, 130)
    got = paired(TIME, rows(values, "seconds"), rows(0 * values, "seconds"), names)
    assert (got.p, got.low, got.reason) == (None, None, "few clusters")
    assert aggregate(TIME, rows(values, "seconds"), names).reason == "few clusters"
    assert paired(TIME, rows(values[70:], "seconds"), rows(0 * values[70:], "seconds"), names[70:]).p is None
    assert paired(TIME, rows(values[97:], "seconds"), rows(0 * values[97:], "seconds"), names[97:]).p < 0.01


def test_a_method_that_beats_dense_is_noticed_in_the_metrics_own_direction():
    up = paired(ACC, rows([1] * 20), rows([0] * 20))
    assert beats(up, ACC) and not beats(up, TIME)
    down = paired(ACC, rows([0] * 20), rows([1] * 20))
    assert not beats(down, ACC) and beats({"value": -1.0, "significant": True}, TIME)
    assert not beats({"value": None, "significant": False}, ACC)


def test_pairs_of_different_length_are_a_bug():
    with pytest.raises(ValueError, match="same examples"):
        paired(ACC, rows([1]), [])
    with pytest.raises(ValueError, match="clusters"):
        aggregate(ACC, rows([1]), ["a", "b"])


# -- order, repeat, breakdown, speed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [ACC, PPL])
def test_order_and_repetition_do_not_touch_the_last_bit(metric):
    rng = np.random.default_rng(7)
    n = 120
    a = [{**p, "accuracy": float(rng.random())} for p in ppl_rows(rng, n)]
    b = [{**p, "accuracy": float(rng.random())} for p in ppl_rows(rng, n)]
    names = [f"c{i // 4}" if i % 3 else "" for i in range(n)]
    first = aggregate(metric, a, names), paired(metric, a, b, names)
    for _ in range(3):
        order = rng.permutation(n)
        a2, b2, names2 = ([x[i] for i in order] for x in (a, b, names))
        assert (aggregate(metric, a2, names2), paired(metric, a2, b2, names2)) == first
    assert (aggregate(metric, a, names), paired(metric, a, b, names)) == first


def test_groups_are_each_key_and_their_combinations():
    data = [{"meta": {"length": n, "kind": k}} for n in (1000, 200) for k in ("b", "a")] + [{"meta": {"length": 200}}]
    got = groups(data, ("length", "kind", "absent"))
    assert [key for key, _ in got] == [
        {"length": 200}, {"length": 1000}, {"kind": "a"}, {"kind": "b"}, {"kind": None},
        {"length": 200, "kind": "a"}, {"length": 200, "kind": "b"}, {"length": 200, "kind": None},
        {"length": 1000, "kind": "a"}, {"length": 1000, "kind": "b"},
    ]  # fmt: skip
    assert got[0][1] == [2, 3, 4] and got[2][1] == [1, 3]
    assert groups(data, ()) == [] and groups([], ("length",)) == []


def test_a_cell_of_ten_thousand_rows_is_fast():
    rng = np.random.default_rng(8)
    a, b = ([{**p, "accuracy": float(rng.random() < 0.5)} for p in ppl_rows(rng, 10_000)] for _ in range(2))
    start = time.process_time()
    for metric in (ACC, PPL):
        aggregate(metric, a)
        paired(metric, a, b)
    assert time.process_time() - start < 1  # about 0.2 s on one core
