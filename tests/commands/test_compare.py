"""`heed compare` as a user meets it, on stored cells: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest

from harness.analysis.summarise import summarise
from harness.cli import main
from harness.contracts.metric import Metric
from harness.identity.run_id import run_id
from harness.records.store import CellStore

METRICS = (Metric("accuracy"), Metric("seconds", percent=False, higher_is_better=False))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def samples(rate: float, ids: range = range(60)) -> list[dict[str, Any]]:
    """The same luck for every method: a lower rate is wrong where a higher one is, and in more places."""
    return [
        {
            "id": f"e{i:03}", "cluster": "", "prompt_sha256": f"p{i}", "meta": {"length": 512 * (1 + i % 2)},
            "references": ["r"], "text": "x", "flags": [], "usage": {},
            "metrics": {"accuracy": float(Random(i).random() < rate), "seconds": 2 - rate + i % 3},
        }
        for i in ids
    ]  # fmt: skip


def add(
    root: Path,
    method: str,
    rows: list[dict[str, Any]],
    *,
    task: str = "passkey",
    model: str = "micro",
    done: bool = True,
    seconds: float = 10.0,
    **params: Any,
) -> Path:
    """Store one cell; returns its folder."""
    identity = {
        "model": {"name": model}, "method": {"target": method, "params": {}}, "task": {"target": task, "params": params},
        "decoding": {"search": "greedy"}, "seed": 0,
    }  # fmt: skip
    facts = {"metrics": [asdict(m) for m in METRICS], "by": ["length"]}
    config = {"labels": {"model": model, "method": method, "task": task}, "identity": identity, "task_facts": facts}
    measured = {
        "ttft_ms": {"q20": seconds, "median": seconds, "q80": seconds}, "kv_bytes_logical": 1 << 20,
        "hardware": {"name": "test"}, "simulated": method == "masked", "batch": 1, "context_tokens": 512,
    }  # fmt: skip
    with CellStore(root, run_id(identity), config) as store:
        store.append(rows)
        store.write_json("efficiency.json", measured)
        if done:
            store.finish(summarise(facts, rows))
    return store.path


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """Dense and power on two tasks, and a method that is only a mask."""
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "results"
    for task in ("passkey", "recall"):
        add(root, "dense", samples(0.9), task=task)
        add(root, "power", samples(0.4), task=task, seconds=20.0)
    add(root, "masked", samples(0.9))
    return root


def heed(capsys, *args: Any) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)"""
    code = main(["compare", *map(str, args)])
    return code, *capsys.readouterr()


def test_two_methods_are_compared_on_every_task_they_share(results, capsys):
    code, out, _ = heed(capsys, "power", "dense")
    assert code == 0
    for text in ("micro / passkey: A = power, B = dense", "micro / recall: A = power, B = dense", "accuracy %", "seconds",
                 "length=512", "length=1024", "ttft_ms: 2.00x", "kv_bytes_logical: 1.00x", "Holm",
                 "power: to see a difference of 1 point(s)", "differs: method.target: power / dense"):  # fmt: skip
        assert text in out, text
    line = next(line for line in out.splitlines() if line.startswith("accuracy %") and " all " in line)
    assert "*" in line and " 60 " in line and "-" in line


def test_the_p_of_the_first_metric_is_corrected_over_the_tasks(results, capsys):
    for task in ("passkey", "recall"):
        add(results, "close", [s | {"metrics": s["metrics"] | {"accuracy": 1.0 - (i < 6)}} for i, s in enumerate(samples(1.0))],
            task=task)  # fmt: skip
        add(results, "full", samples(1.0), task=task)
    _, out, _ = heed(capsys, "close", "full")
    whole = [line for line in out.splitlines() if line.startswith("accuracy %") and " all " in line]
    assert len(whole) == 2 and all("0.062" in line and "*" not in line for line in whole)  # 2 x 2^-5 = 0.031 by itself


def test_a_mask_has_no_speed_to_compare(results, capsys):
    _, out, _ = heed(capsys, "masked", "dense")
    assert "ttft_ms: not judged: simulated" in out and "kv_bytes_logical: 1.00x" in out


def test_two_models_are_compared(results, capsys):
    add(results, "dense", samples(0.7), model="mini")
    code, out, _ = heed(capsys, "mini", "micro")
    assert code == 0 and "dense / passkey: A = mini, B = micro" in out and "differs: model.name: mini / micro" in out


def test_two_run_folders_are_compared_wherever_they_are(results, tmp_path, capsys):
    a, b = add(tmp_path / "one", "power", samples(0.4)), add(tmp_path / "two", "dense", samples(0.9))
    code, out, _ = heed(capsys, a, b)
    assert code == 0 and "accuracy %" in out and "differs: method.target: power / dense" in out


def test_two_ids_are_compared_and_may_be_short(results, capsys):
    a, b = add(results, "quest", samples(0.5)).name, add(results, "sliding", samples(0.6)).name
    for pair in ((a, b), (a[:8], b[:8])):
        code, out, _ = heed(capsys, *pair)
        assert code == 0 and "differs: method.target: quest / sliding" in out


def test_the_model_folder_in_the_working_directory_is_no_run(results, tmp_path, capsys):
    (tmp_path / "micro").mkdir()
    (tmp_path / "micro" / "config.json").write_text("{}")
    add(results, "dense", samples(0.7), model="mini")
    assert heed(capsys, "mini", "micro")[0] == 0


def test_of_several_runs_under_one_name_those_that_fit_are_compared(results, capsys):
    add(results, "power", samples(0.5), policy="contains")
    code, out, _ = heed(capsys, "power", "dense")
    assert code == 0 and out.count("micro / passkey: A = power") == 1 and "not comparable" not in out


def test_two_protocols_of_one_task_say_in_their_titles_what_sets_them_apart(results, capsys):
    for method, rate in (("power", 0.4), ("dense", 0.9)):
        add(results, method, samples(rate), task="ruler", lengths=[256, 512], samples=10)
        add(results, method, samples(rate), task="ruler", lengths=[4096], samples=20)
    code, out, _ = heed(capsys, "power", "dense")
    assert code == 0
    assert "micro / ruler (lengths 256, 512; samples 10): A = power" in out
    assert "micro / ruler (lengths 4096; samples 20): A = power" in out
    assert "micro / recall: A = power" in out


def test_too_few_clusters_are_said_in_place_of_p(results, capsys):
    few = [row | {"cluster": f"doc{i % 5}"} for i, row in enumerate(samples(0.9))]
    worse = [row | {"metrics": {"accuracy": 0.0, "seconds": 1.0 + i}} for i, row in enumerate(few)]
    add(results, "power", worse, task="ruler")
    add(results, "dense", few, task="ruler")
    _, out, _ = heed(capsys, "power", "dense")
    block = out.partition("micro / ruler: A = power")[2].splitlines()
    line = next(line for line in block if line.startswith("accuracy %") and " all " in line)
    assert "few clusters" in line and "*" not in line and "fewer than six" in out


def test_examples_of_one_side_only_are_counted(results, tmp_path, capsys):
    a, b = add(tmp_path / "one", "power", samples(0.4, range(10, 70))), add(tmp_path / "two", "dense", samples(0.9))
    _, out, _ = heed(capsys, a, b)
    assert "20 example(s) stand in one of the two only and are left out" in out


def test_one_task_that_cannot_be_compared_does_not_hide_the_others(results, capsys):
    add(results, "power", samples(0.4, range(100, 120)), task="ruler")
    add(results, "dense", samples(0.9), task="ruler")
    add(results, "power", samples(0.4), task="pope", done=False)
    add(results, "dense", samples(0.9), task="pope")
    code, out, _ = heed(capsys, "power", "dense")
    assert code == 0 and "micro / recall: A = power" in out
    assert "micro / ruler: not comparable" in out and "no example in common" in out
    assert "micro / pope: not comparable" in out and "is unfinished" in out and "differs in" not in out


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("pwer", "dense"), "did you mean 'power'?"),
        (("power", "dens"), "did you mean 'dense'?"),
        (("power", "micro"), "'power' and 'micro' are of two kinds"),
        (("results/runs", "dense"), "results/runs is not the folder of a run"),
        (("power", "dense", "--margin", "0"), "--margin=0"),
        (("power", "dense", "--margin", "-1"), "--margin=-1"),
        (("power", "dense", "--margin", "nan"), "--margin=nan"),
        (("power", "dense", "--results", "nowhere"), "nowhere holds no finished runs"),
    ],
)
def test_a_mistake_is_one_paragraph_with_exit_2(results, capsys, names, says):
    code, _, err = heed(capsys, *names)
    assert code == 2 and says in err and len(err.strip().splitlines()) == 1


def test_no_task_in_common_is_a_mistake(results, capsys):
    add(results, "lone", samples(0.5), task="ruler")
    code, _, err = heed(capsys, "lone", "dense")
    assert code == 2 and "have no task in common" in err


def test_no_example_in_common_is_a_mistake(results, tmp_path, capsys):
    a, b = (
        add(tmp_path / "one", "power", samples(0.4, range(5))),
        add(tmp_path / "two", "dense", samples(0.9, range(5, 9))),
    )
    code, out, err = heed(capsys, a, b)
    assert code == 2 and "no example in common" in out and "can be compared" in err


def test_nothing_comparable_says_which_keys_differ(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "results"
    add(root, "dense", samples(0.9), policy="exact")
    add(root, "power", samples(0.4), policy="contains")
    code, out, err = heed(capsys, "power", "dense")
    assert code == 2 and "micro / passkey: not comparable: task.params.policy differs" in out
    assert "no cell of power can be compared with one of dense" in err


def test_no_metric_in_common_is_not_a_crash(tmp_path, capsys):
    bare = [row | {"metrics": {}} for row in samples(0.5)]
    code, out, _ = heed(capsys, add(tmp_path / "a", "power", bare), add(tmp_path / "b", "dense", bare))
    assert code == 2 and "no number on the whole task in common" in out
