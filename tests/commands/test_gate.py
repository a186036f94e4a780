"""The gate: unchanged passes, worse is caught, what cannot be compared is said; exit codes 0, 1, 2."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.identity.run_id import run_id
from harness.records.store import CellStore

ROOT = Path(__file__).parents[2]
HARDWARE = {"device": "cpu", "name": "cpu: a"}


def timed(median: float, spread: float = 0.02, n: int = 10) -> dict[str, float]:
    return {"median": median, "q20": median * (1 - spread), "q80": median * (1 + spread), "n": n}


def cell(root: Path, right: int, n: int = 100, method: str = "power", **changes: Any) -> Path:
    """A finished cell with `right` of `n` answers right. Changes: identity keys, or `efficiency`, `lower`, `prompt`."""
    efficiency = changes.pop("efficiency", None)
    prompt, task = changes.pop("prompt", "p"), changes.pop("label", "t")
    metric = {"name": "accuracy", "higher_is_better": not changes.pop("lower", False)}
    identity = {"task": {"params": {"policy": "official"}}, "decoding": {"search": "greedy"}, "seed": 0} | changes
    config = {
        "identity": identity | {"method": {"source": str(root), "name": f"{method} {task}"}},
        "labels": {"model": "m", "method": method, "task": task},
        "task_facts": {"metrics": [metric], "by": []},
    }
    with CellStore(root, run_id(config["identity"]), config) as store:
        store.append(
            [
                {"id": f"e{i}", "cluster": "", "meta": {}, "text": "x", "references": ["r"], "flags": [],
                 "prompt_sha256": f"{prompt}{i}", "metrics": {"accuracy": float(i < right)}}
                for i in range(n)
            ]
        )  # fmt: skip
        if efficiency:
            store.write_json(
                "efficiency.json",
                {"hardware": HARDWARE, "batch": 1, "context_tokens": 9, "other_load": 0.02, "pace_ms": timed(8.0)}
                | efficiency,
            )
        store.finish({"n": n})
        return store.path


def gate(tmp_path: Path, *flags: str) -> int:
    return main(["gate", "--baseline", str(tmp_path / "old"), "--candidate", str(tmp_path / "new"), *flags])


def test_equal_results_pass_and_new_cells_are_named(tmp_path, capsys):
    cell(tmp_path / "old", 90)
    cell(tmp_path / "new", 90)
    cell(tmp_path / "new", 10, method="another")
    assert gate(tmp_path) == 0
    assert "not in the baseline" in capsys.readouterr().out


@pytest.mark.parametrize(("right", "code"), [(89, 0), (86, 0), (70, 1)])
def test_only_what_is_worse_beyond_doubt_and_margin_fails(tmp_path, right, code):
    cell(tmp_path / "old", 90)
    cell(tmp_path / "new", right)
    assert gate(tmp_path) == code


def test_what_too_few_clusters_cannot_tell_is_named_as_not_judged(tmp_path, capsys):
    cell(tmp_path / "old", 5, n=5)
    cell(tmp_path / "new", 0, n=5)
    assert gate(tmp_path) == 0
    assert "accuracy not judged: few clusters" in " ".join(capsys.readouterr().out.split())


def test_a_wider_margin_lets_it_pass(tmp_path):
    cell(tmp_path / "old", 90)
    cell(tmp_path / "new", 70)
    assert gate(tmp_path, "--margin", "15") == 0


@pytest.mark.parametrize(("old", "new", "code"), [(10, 40, 1), (40, 10, 0)])
def test_of_an_error_rate_more_is_worse(tmp_path, old, new, code):
    cell(tmp_path / "old", old, lower=True)
    cell(tmp_path / "new", new, lower=True)
    assert gate(tmp_path) == code


SLOWER = {"ttft_ms": timed(14.0)}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (SLOWER, 1),
        ({"ttft_ms": timed(12.0)}, 0),  # within the threshold
        ({"ttft_ms": timed(14.0, spread=0.4)}, 0),  # the ranges touch
        ({"ttft_ms": timed(14.0, n=3)}, 0),  # too few to judge
        (SLOWER | {"hardware": {"device": "cpu", "name": "cpu: b"}}, 0),
        (SLOWER | {"simulated": True}, 0),
        (SLOWER | {"other_load": 0.9}, 0),
        (SLOWER | {"other_load": None}, 0),
        (SLOWER | {"pace_ms": None}, 0),
        (SLOWER | {"pace_ms": timed(10.4)}, 0),  # 1.4 times, of which the machine itself is 1.3
        (SLOWER | {"pace_ms": timed(4.0)}, 1),  # a machine in a better mood excuses nothing
        ({"kv_bytes_logical": 2000, "hardware": {"name": "cpu: b"}}, 1),  # bytes are the same everywhere
    ],
)
def test_speed_is_judged_where_that_is_fair(tmp_path, changes, code):
    cell(tmp_path / "old", 90, efficiency={"ttft_ms": timed(10.0), "kv_bytes_logical": 1000})
    cell(tmp_path / "new", 90, efficiency={"ttft_ms": timed(10.0), "kv_bytes_logical": 1000} | changes)
    assert gate(tmp_path) == code


@pytest.mark.parametrize(("slow", "code"), [(["t"], 0), (["t", "u"], 1), (["t", "u", "v"], 1)])
def test_a_slower_time_counts_where_most_cells_of_the_method_show_it(tmp_path, capsys, slow, code):
    for task in ("t", "u", "v"):
        cell(tmp_path / "old", 90, efficiency={"ttft_ms": timed(10.0)}, label=task)
        cell(tmp_path / "new", 90, efficiency={"ttft_ms": timed(14.0 if task in slow else 10.0)}, label=task)
    assert gate(tmp_path) == code
    assert ("taken for the machine's" in capsys.readouterr().out) == (code == 0)


def test_what_cannot_be_compared_names_the_key(tmp_path, capsys):
    cell(tmp_path / "old", 90)
    cell(tmp_path / "new", 90, task={"params": {"policy": "strict"}})
    assert gate(tmp_path) == 2
    assert "task.params.policy" in capsys.readouterr().out


def test_other_prompts_under_the_same_ids_cannot_be_compared(tmp_path, capsys):
    cell(tmp_path / "old", 90)
    cell(tmp_path / "new", 90, prompt="other")
    assert gate(tmp_path) == 2
    assert "not the same" in capsys.readouterr().out


def test_a_cell_that_is_gone_cannot_be_judged_and_one_that_fails_now_is_worse(tmp_path):
    cell(tmp_path / "old", 90)
    cell(tmp_path / "new", 90, method="another")
    assert gate(tmp_path) == 2
    with CellStore(
        tmp_path / "new", run_id({}), {"identity": {}, "labels": {"model": "m", "method": "power", "task": "t"}}
    ) as c:
        c.fail("NotEngaged", "it read every key")
    assert gate(tmp_path) == 1


def test_an_older_layout_is_named(tmp_path, capsys):
    path = cell(tmp_path / "old", 90)
    cell(tmp_path / "new", 90)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"schema": 0}))
    assert gate(tmp_path) == 2
    assert "layout version 0" in " ".join(capsys.readouterr().out.split())


def test_mistakes_get_one_sentence(tmp_path, capsys):
    cell(tmp_path / "old", 90)
    for flags in ((), ("--margin", "-1"), ("--slower", "0.5")):
        assert gate(tmp_path, *flags) == 2
    assert "holds no runs" in capsys.readouterr().err


def test_markdown_and_junit_hold_the_verdict_and_nothing_executable(tmp_path):
    cell(tmp_path / "old", 90, method="a|<script>\x00")
    cell(tmp_path / "new", 50, method="a|<script>\x00")
    md, xml = tmp_path / "out" / "gate.md", tmp_path / "gate.xml"
    assert gate(tmp_path, "--markdown", str(md), "--junit", str(xml)) == 1
    assert "worse" in md.read_text() and "<script>" not in md.read_text()
    suite = ET.parse(xml).getroot()
    assert suite.get("failures") == "1" and suite.find("testcase/failure") is not None


@pytest.mark.slow
def test_a_planted_regression_is_caught_and_the_unchanged_suite_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    base = [
        "run",
        "method=[quest,snapkv]",
        "task=[passkey]",
        "task.passkey.trials=4",
        "efficiency=off",
        "tracking=disabled",
    ]
    assert main([*base, f"results={tmp_path / 'old'}"]) == 0
    assert main([*base, f"results={tmp_path / 'new'}"]) == 0
    assert gate(tmp_path) == 0
    shutil.rmtree(tmp_path / "new")
    assert main([*base, f"results={tmp_path / 'new'}", "method.snapkv.capacity=20"]) == 0
    assert gate(tmp_path) == 1
