"""Metrics that are means over question sets: values, intervals, pairs, storage, and their lines in the table."""

from __future__ import annotations

import io
from dataclasses import asdict

import numpy as np
import pytest

from harness.analysis.statistics import aggregate, paired
from harness.analysis.summarise import summarise
from harness.commands.data import _export
from harness.contracts.metric import Metric, as_metric
from harness.identity.run_id import run_id
from harness.records.store import CellStore, read_cells
from harness.report.terminal import render
from harness.terminal.printing import Terminal
from tasks.pope import Pope
from tasks.pope.metrics import METRICS

MEAN = Metric("m", "ratio", "a", "b", macro=("x", "y", "z"))
ONE = Metric("m_x", "ratio", "a", "b", macro=("x",))
ZERO = Metric("m", "ratio", "a", "b", macro=("x", "y"), undefined=0.0)


def row(**splits: tuple[float, float]) -> dict[str, float]:
    return {f"{key}@{s}": v for s, pair in splits.items() for key, v in zip("ab", pair, strict=True)}


def test_the_mean_is_over_suffixes_and_not_over_rows():
    rows = [row(x=(1, 1)), row(x=(0, 1)), row(x=(0, 1)), row(x=(0, 1), y=(1, 1))]
    assert aggregate(MEAN, rows).value == pytest.approx((1 / 4 + 1) / 2)
    assert aggregate(ONE, rows).value == 0.25


def test_suffixes_that_no_row_has_are_left_out_and_0_over_0_is_what_the_metric_says():
    assert aggregate(MEAN, [row(y=(1, 2))] * 2).value == 0.5
    rows = [row(x=(0, 0), y=(1, 1))] * 2
    assert (aggregate(MEAN, rows).value, aggregate(ZERO, rows).value) == (1.0, 0.5)
    assert aggregate(MEAN, [row(x=(0, 0))]).value is None and aggregate(ZERO, [row(x=(0, 0))]).value == 0.0
    assert aggregate(ZERO, []).value is None and aggregate(ZERO, [row(z=(1, 1))]).value is None


def test_rows_of_other_suffixes_are_not_missing_and_rows_without_any_are():
    got = aggregate(ONE, [row(x=(1, 1)), row(y=(1, 1)), {}, row(x=(0, 1), y=(1, 1))])
    assert (got.n, got.n_missing, got.n_clusters) == (2, 1, 2)
    both = paired(ONE, [row(x=(1, 1)), row(y=(1, 1)), {}], [row(x=(0, 1)), row(y=(0, 1)), {}])
    assert (both.value, both.n, both.n_missing) == (1.0, 1, 1)


def test_the_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    hits, runs = 0, 200
    for _ in range(runs):
        easy, hard = rng.random((80, 3)) < 0.9, rng.random((80, 3)) < 0.6
        rows = [row(x=(e.sum(), 3), y=(h.sum(), 3)) for e, h in zip(easy, hard, strict=True)]
        got = aggregate(MEAN, rows)
        hits += got.low <= 0.75 <= got.high
    assert 0.90 <= hits / runs <= 0.99


def test_order_does_not_touch_the_last_bit_and_pairs_agree_with_single_values():
    rng = np.random.default_rng(1)
    rows = [[row(x=(rng.random(), 1.0), y=(rng.random(), 2.0)) for _ in range(50)] for _ in range(2)]
    names = [f"c{i // 2}" for i in range(50)]
    order = rng.permutation(50)
    shuffled = [[part[i] for i in order] for part in rows]
    assert aggregate(MEAN, rows[0], names) == aggregate(MEAN, shuffled[0], [names[i] for i in order])
    got = paired(MEAN, *rows, names)
    assert got == paired(MEAN, *shuffled, [names[i] for i in order])
    assert got.value == aggregate(MEAN, rows[0], names).value - aggregate(MEAN, rows[1], names).value
    assert got.low < got.value < got.high and got.test == "clustered t"


def test_a_metric_comes_back_from_json_as_it_was():
    for metric in METRICS:
        facts = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(metric).items()}
        assert as_metric(facts) == metric
    assert as_metric({"name": "accuracy"}) == Metric("accuracy")


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_has_a_column_per_metric_and_a_line_per_question_set(tmp_path, width):
    task = Pope(scenes=20)
    facts = {"metrics": [asdict(m) for m in task.metrics], "by": []}
    examples = list(task.examples(None))
    stored = {}
    for method, text in (("dense", None), ("yes-man", "Yes")):
        stored[method] = [
            {"id": e.id, "cluster": e.cluster, "meta": dict(e.meta), "flags": [],
             "metrics": dict(task.score(e, text or e.references[0]).metrics)} for e in examples
        ]  # fmt: skip
        config = {"labels": {"model": "m", "method": method, "task": "pope"}, "task_facts": facts}
        config["identity"] = {"method": {"name": method}}
        with CellStore(tmp_path, run_id(config["identity"]), config) as store:
            store.append(stored[method])
            store.write_json("efficiency.json", {})
            store.finish(summarise(facts, stored[method], stored["dense"] if text else None))
    out = io.StringIO()
    render(read_cells(tmp_path), Terminal(file=out, width=width))
    text = out.getvalue()
    assert all(len(line.rstrip()) <= width for line in text.splitlines() if not line.startswith("*"))
    lines = [line.split() for line in text.splitlines()]
    assert ["random", "50.00", "*", "66.67", "*", "100.00", "*"] in lines
    assert sum(line[:1] in (["random"], ["popular"], ["adversarial"]) for line in lines) == 6
    assert "precision" not in text and "* differs significantly from dense" in text


def test_export_tells_what_was_written(tmp_path):
    out = io.StringIO()
    _export(Pope(scenes=5), tmp_path / "new", Terminal(file=out, width=400))
    assert "images/ (5 files), instances.json, captions.json, pope_random.jsonl" in out.getvalue()
