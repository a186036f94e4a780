"""Two cells are compared only where that means something, with corrected tests and an honest number of examples."""

from __future__ import annotations

import json
import os
import shutil
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from harness.analysis.compare import compared, differences, examples_for, holm, incomparable, pairs, ratios
from harness.analysis.statistics import Difference, paired
from harness.contracts.metric import Metric
from harness.errors import UserError
from harness.identity.run_id import run_id
from harness.records.cells import CellRecord, read_cells
from harness.records.store import CellStore

ACC = Metric("accuracy")
SECONDS = Metric("seconds", percent=False)
IDENTITY: dict[str, Any] = {
    "model": {"name": "micro"},
    "method": {"target": "methods.Power", "params": {"blocks": 8}},
    "task": {"target": "tasks.Passkey", "params": {"policy": "exact", "lengths": [512]}},
    "decoding": {"search": "greedy", "temperature": 0},
    "seed": 0,
}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def sample(name: str, right: float = 1.0, **changes: Any) -> dict[str, Any]:
    return {
        "id": name, "cluster": "", "prompt_sha256": f"asked {name}", "meta": {"length": 512}, "references": ["r"],
        "text": "x", "metrics": {"accuracy": right}, "flags": [], "usage": {},
    } | changes  # fmt: skip


def cell(
    root: Path,
    rows: list[dict[str, Any]] | None = None,
    *,
    done: bool = True,
    metrics: tuple[Metric, ...] = (ACC,),
    by: tuple[str, ...] = ("length",),
    **changed: Any,
) -> CellRecord:
    """A stored cell; `changed`: dotted keys of the identity, with `__` for the dot."""
    identity = deepcopy(IDENTITY)
    for key, value in changed.items():
        *parents, last = key.split("__")
        part = identity
        for parent in parents:
            part = part[parent]
        part[last] = value
    facts = {"metrics": [asdict(m) for m in metrics], "by": list(by)}
    rows = [sample("e0"), sample("e1", 0.0)] if rows is None else rows
    labels, name = {"model": "micro", "method": "power", "task": "passkey"}, run_id(identity)
    with CellStore(root, name, {"identity": identity, "labels": labels, "task_facts": facts}) as store:
        store.append(rows)
        if done:
            store.finish({"n": len(rows)})
    return next(c for c in read_cells(root) if c.run_id == name)


def two(
    tmp_path: Path, a: list[dict[str, Any]], b: list[dict[str, Any]], **options: Any
) -> tuple[CellRecord, CellRecord]:
    return cell(tmp_path / "a", a, **options), cell(tmp_path / "b", b, **options)


# -- Holm ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ps", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),
        ([0.001, 0.013, 0.04], [0.003, 0.026, 0.04]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.02, None, 0.03], [0.04, None, 0.04]),
        ([0.05], [0.05]),
        ([None, None], [None, None]),
        ([], []),
    ],
)
def test_holm_gives_the_worked_numbers(ps, adjusted):
    assert holm(ps) == [None if p is None else pytest.approx(p) for p in adjusted]


def test_holm_keeps_the_order_is_never_below_p_and_leaves_untested_ones_alone():
    for trial in range(200):
        rng = Random(trial)
        ps = [None if rng.random() < 0.2 else rng.choice([rng.random(), rng.random() ** 4, 0.0, 1.0]) for _ in range(9)]
        got = holm(ps)
        assert [p is None for p in ps] == [p is None for p in got]
        found = sorted((p, q) for p, q in zip(ps, got, strict=True) if p is not None and q is not None)
        assert all(p <= q <= min(1.0, p * len(found)) + 1e-12 for p, q in found)
        assert [q for _, q in found] == sorted(q for _, q in found)
        mixed = list(range(len(ps)))
        rng.shuffle(mixed)
        assert holm([ps[i] for i in mixed]) == [got[i] for i in mixed]


def test_holm_keeps_false_discoveries_of_a_family_below_five_percent():
    rng = np.random.default_rng(3)
    wrong = sum(any(p < 0.05 for p in holm(list(rng.random(8)))) for _ in range(4000)) / 4000
    assert 0.035 < wrong < 0.06  # 1 - (1 - 0.05 / 8)^8 = 0.049


# -- examples needed -------------------------------------------------------------------------------------------------


def draw(kind: str, rng: np.random.Generator, n: int) -> tuple[Metric, list[dict], list[dict], list[str] | None, float]:
    """(metric, rows of A, rows of B, clusters, the true difference) of about `n` examples."""
    if kind == "right and wrong":
        which = rng.choice(4, n, p=[0.5, 0.27, 0.14, 0.09])  # both right, both wrong, A alone, B alone
        return ACC, rows(np.isin(which, [0, 2])), rows(np.isin(which, [0, 3])), None, 0.05
    if kind == "numbers":
        base = rng.normal(10, 5, n)
        return SECONDS, rows(base + rng.normal(0.3, 1.5, n), "seconds"), rows(base, "seconds"), None, 0.3
    groups = -(-n // 5)
    shift = np.repeat(rng.normal(0.4, 1.0, groups), 5)
    values = shift + rng.normal(0, 1.0, 5 * groups)
    names = [f"doc{g}" for g in range(groups) for _ in range(5)]
    return SECONDS, rows(values, "seconds"), rows(np.zeros(5 * groups), "seconds"), names, 0.4


def rows(values: Any, name: str = "accuracy") -> list[dict[str, float]]:
    return [{name: float(v)} for v in values]


@pytest.mark.parametrize("kind", ["right and wrong", "numbers", "clusters of five"])
def test_with_the_examples_it_asks_for_four_tests_out_of_five_find_the_difference(kind):
    rng = np.random.default_rng(7)
    metric, a, b, clusters, effect = draw(kind, rng, 20_000)
    needed = examples_for(paired(metric, a, b, clusters), effect)
    assert needed is not None and 30 < needed < 2000
    found = 0
    for _ in range(300):
        metric, a, b, clusters, _ = draw(kind, rng, needed)
        found += paired(metric, a, b, clusters).significant
    assert 0.73 < found / 300 < 0.87


def test_half_the_effect_needs_four_times_the_examples_and_no_spread_says_nothing():
    spread = Difference(0.1, 0.0, 0.2, 0.05, 100, 100, "clustered t", False, error=0.05)
    assert examples_for(spread, 0.05) == pytest.approx(4 * examples_for(spread, 0.1), abs=4)
    assert examples_for(spread, 0.1) == 197  # ((1.95996 + 0.84162) * 0.05 * sqrt(100) / 0.1)^2 = 196.2
    assert examples_for(spread, 1e3) == 6
    for nothing in (replace(spread, low=None, high=None), replace(spread, error=None), replace(spread, error=0.0)):
        assert examples_for(nothing, 0.1) is None
    assert examples_for(spread, 0.0) is None


# -- may they be compared? -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        ({}, []),
        ({"task__params__policy": "contains"}, ["task.params.policy"]),
        ({"decoding__search": "beam"}, ["decoding.search"]),
        ({"seed": 1}, ["seed"]),
        ({"seed": 1, "task__params__lengths": [512, 1024]}, ["task.params.lengths", "seed"]),
        ({"model__name": "other", "method__params__blocks": 4, "limit": 3}, []),
    ],
)
def test_what_must_agree_is_named_and_model_and_method_may_differ(tmp_path, changed, keys):
    assert incomparable(cell(tmp_path / "a"), cell(tmp_path / "b", **changed)) == keys


def test_an_unfinished_or_damaged_cell_is_named(tmp_path):
    good, open_ = cell(tmp_path / "a"), cell(tmp_path / "b", done=False)
    for pair in ((good, open_), (open_, good)):
        (why,) = incomparable(*pair)
        assert str(open_.path) in why and "is unfinished" in why
    (good.path / "samples.jsonl").write_text("")
    (damaged,) = read_cells(tmp_path / "a")
    assert "is damaged" in incomparable(damaged, good)[0]


def test_differences_are_listed_by_key_with_both_values(tmp_path):
    a = cell(tmp_path / "a", method__params__blocks=4, limit=3)
    b = cell(tmp_path / "b", model__name="other", model__files={"v1.0.json": "y"})
    assert differences(a, b) == [
        ("limit", 3, None),
        ("method.params.blocks", 4, 8),
        ("model.files", None, {"v1.0.json": "y"}),
        ("model.name", "micro", "other"),
    ]
    assert differences(a, a) == []


def test_a_key_with_dots_in_its_name_keeps_its_values(tmp_path):
    a, b = (cell(tmp_path / v, model__files={"v1.0.json": v, "v1": {"0": "same"}}) for v in "ab")
    assert differences(a, b) == [("model.files.v1.0.json", "a", "b")]


# -- pairs -----------------------------------------------------------------------------------------------------------


def test_examples_of_one_side_only_are_left_out_and_order_does_not_count(tmp_path):
    a, b = two(tmp_path, [sample(f"e{i}") for i in (3, 1, 2)], [sample(f"e{i}", 0.0) for i in (2, 9, 3)])
    assert [(x["id"], y["id"]) for x, y in pairs(a, b)] == [("e2", "e2"), ("e3", "e3")]
    (whole,) = compared(a, b, pairs(a, b))
    assert (whole.a, whole.b, whole.difference.value, whole.difference.n) == (1.0, 0.0, 1.0, 2)


def test_one_id_that_asked_two_things_is_refused(tmp_path):
    for n, change in enumerate(({"prompt_sha256": "other"}, {"references": ["s"]}, {"references": []})):
        a, b = two(tmp_path / str(n), [sample("e0"), sample("e1")], [sample("e0"), sample("e1", **change)])
        what = "references differ" if "references" in change else "prompt differs"
        with pytest.raises(UserError, match=rf"Example 'e1' is not the same .*: its {what}\. .*other code"):
            pairs(a, b)


def test_the_reason_why_examples_differ_is_read_from_the_settings(tmp_path):
    """The template, not a version of the task: lengths are fitted to what the template adds."""
    a = cell(tmp_path / "a", model__template="none", method__params__blocks=4)
    b = cell(tmp_path / "b", [sample("e0", prompt_sha256="longer"), sample("e1")], model__template="chat")
    with pytest.raises(UserError, match="not the same") as error:
        pairs(a, b)
    assert "differ in model.template: none / chat: run both" in str(error.value) and "blocks" not in str(error.value)
    with pytest.raises(UserError, match=r"no example in common.*limit: 3 / None"):
        pairs(cell(tmp_path / "c", [sample("e7")], limit=3), a)


def test_no_example_in_common_is_an_error_that_names_both(tmp_path):
    a, b = two(tmp_path, [sample("e0")], [sample("e1")])
    with pytest.raises(UserError, match="no example in common") as error:
        pairs(a, b)
    assert str(a.path) in str(error.value) and str(b.path) in str(error.value)


def test_the_headline_is_broken_down_and_a_metric_that_nothing_has_is_left_out(tmp_path):
    def made(right: float) -> list[dict[str, Any]]:
        return [sample(f"e{i}", right if i % 2 else 1.0, meta={"length": 512 * (1 + i % 2)}) for i in range(20)]

    a, b = two(tmp_path, made(1.0), made(0.0), metrics=(ACC, Metric("absent")))
    found = compared(a, b, pairs(a, b))
    assert [(c.metric.name, dict(c.by), c.difference.value) for c in found] == [
        ("accuracy", {}, 0.5),
        ("accuracy", {"length": 512}, 0.0),
        ("accuracy", {"length": 1024}, 1.0),
    ]


def test_a_line_that_is_no_sample_is_named_with_its_number(tmp_path):
    record = cell(tmp_path, [sample(f"e{i}") for i in range(3)])
    lines = (record.path / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (record.path / "samples.jsonl").write_bytes(lines[0] + lines[1] + b"garbage\n")
    with pytest.raises(UserError, match=r"samples\.jsonl, line 3"):
        list(record.stream())


# -- efficiency ------------------------------------------------------------------------------------------------------


def measured(scale: float = 1.0, **changes: Any) -> CellRecord:
    timed = {
        name: {"q20": 9.0 * scale, "median": 10.0 * scale, "q80": 12.0 * scale}
        for name in ("ttft_ms", "decode_ms_per_token")
    }
    facts = {
        "batch": 1, "context_tokens": 512, "peak_memory_bytes": 1000 * scale, "kv_bytes_logical": 100 * scale,
        "kv_bytes_physical": 100.0, "hardware": {"device": "cuda", "name": "H100", "torch": "2.9"}, "simulated": False,
    }  # fmt: skip
    return CellRecord("cell", Path("cell"), efficiency=timed | facts | changes)


def by_name(a: CellRecord, b: CellRecord) -> dict[str, Any]:
    return {r.name: r for r in ratios(a, b)}


def test_ratios_on_the_same_hardware_are_judged_with_what_the_quantiles_allow():
    found = by_name(measured(2.0), measured())
    assert len(found) == 5 and not any(r.not_judged for r in found.values())
    ttft = found["ttft_ms"]
    assert (ttft.value, ttft.low, ttft.high) == pytest.approx((2.0, 18 / 12, 24 / 9))
    assert (found["peak_memory_bytes"].low, found["peak_memory_bytes"].high) == (2.0, 2.0)
    assert found["kv_bytes_physical"].value == 1.0


@pytest.mark.parametrize(
    ("scale", "disjoint"), [(1.0, False), (1.2, False), (1.34, True), (0.8, False), (0.74, True), (4.0, True)]
)
def test_disjoint_are_ranges_that_do_not_touch(scale, disjoint):
    assert by_name(measured(scale), measured())["ttft_ms"].disjoint is disjoint
    assert by_name(measured(), measured())["kv_bytes_logical"].disjoint is False


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hardware": {"device": "cuda", "name": "A100", "torch": "2.9"}}, "other hardware or library (name)"),
        ({"hardware": {"device": "cuda", "name": "H100", "torch": "2.8"}}, "other hardware or library (torch)"),
        ({"simulated": True}, "simulated: a mask inside a dense kernel"),
    ],
)
def test_speed_of_other_hardware_or_of_a_mask_is_not_judged_and_cache_bytes_are(changes, why):
    for a, b in ((measured(2.0), measured(**changes)), (measured(2.0, **changes), measured())):
        found = by_name(a, b)
        assert {found[n].not_judged for n in ("ttft_ms", "decode_ms_per_token", "peak_memory_bytes")} == {why}
        assert found["kv_bytes_logical"].not_judged == found["kv_bytes_physical"].not_judged == ""


@pytest.mark.parametrize("changes", [{"context_tokens": 1024}, {"batch": 4}])
def test_requests_of_different_size_are_not_judged_at_all(changes):
    found = by_name(measured(), measured(**changes))
    assert {r.not_judged for r in found.values()} == {"measured on requests of different size"}


def test_what_one_side_did_not_measure_has_no_ratio():
    assert ratios(CellRecord("x", Path("x")), measured()) == []
    assert "kv_bytes_logical" not in by_name(measured(kv_bytes_logical=None), measured())
    assert "kv_bytes_logical" not in by_name(measured(), measured(kv_bytes_logical=0))
    assert "ttft_ms" not in by_name(measured(ttft_ms={"median": 3.0}), measured())


# -- cells read from several roots -----------------------------------------------------------------------------------


def test_equal_copies_in_two_roots_count_once(tmp_path):
    one = cell(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    more = cell(tmp_path / "b", seed=1)
    found = {c.run_id: c for c in read_cells(tmp_path / "a", tmp_path / "b")}
    assert found.keys() == {one.run_id, more.run_id} and all(c.done and not c.problem for c in found.values())
    assert found[one.run_id].path == one.path


def test_one_run_id_with_two_contents_is_believed_nowhere_however_many_copies_follow(tmp_path):
    a, b = cell(tmp_path / "a"), cell(tmp_path / "b", [sample("e0", 0.0)])
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    for roots in ("ab", "ba", "abc", "acb", "bca"):
        (found,) = read_cells(*(tmp_path / root for root in roots))
        assert not found.done and "same run id and different content" in found.problem
        assert str(a.path) in found.problem
    assert str(b.path) in read_cells(tmp_path / "a", tmp_path / "b")[0].problem


def test_the_finished_copy_wins_over_the_unfinished_and_the_damaged_one(tmp_path):
    good = cell(tmp_path / "good")
    cell(tmp_path / "open", [sample("e0")], done=False)
    (cell(tmp_path / "bad").path / "metrics.json").write_text(json.dumps({"n": 99}))
    names = ("open", "good", "bad")
    for roots in (names, names[::-1], ("good", "open"), ("bad", "good")):
        (found,) = read_cells(*(tmp_path / root for root in roots))
        assert found.done and found.path == good.path
