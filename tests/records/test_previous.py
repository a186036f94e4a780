"""Results of the previous version: cells as it wrote them, in `previous/`, are read by every verb, and say what they said then.

They are passkey with a failed and a refused cell, CHAIR, and a task of lm-eval whose totals stand in `figures/`. Their PNG
files were left out.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from harness.cli import main
from harness.config import plugins
from harness.config.build import target_class
from harness.records.cells import read_cells
from harness.records.earlier import completed
from harness.report.board import board

PREVIOUS = Path(__file__).parent / "previous"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def results(tmp_path):
    return shutil.copytree(PREVIOUS, tmp_path / "results")


def heed(*args):
    return main([str(a) for a in args])


def test_every_cell_is_read_and_its_status_is_what_it_was():
    cells = read_cells(PREVIOUS)
    assert not [cell.problem for cell in cells if cell.problem]
    states = {one.name: one.row["status"] for one in board(cells).lines if one.row["task"] == "passkey"}
    assert states == {"dense": "done", "snapkv (question prefill)": "done", "sliding": "failed", "vcd": "refused"}


def test_alarms_and_companions_are_what_they_were():
    found = board(read_cells(PREVIOUS))
    alarms = {one.name: [alarm.text for alarm in one.alarms] for one in found.lines if one.alarms}
    assert alarms == {"snapkv (question prefill)": ["each of 3 outputs compared equals dense's"]}
    companions = {block.task: [metric.name for metric in block.companions] for block in found.blocks}
    assert companions == {"chair": ["recall", "length"], "lm_eval": [], "passkey": []}


def test_the_committed_leaderboard_is_what_its_records_say(tmp_path):
    assert heed("report", ROOT / "results" / "reference", "--out", tmp_path) == 0
    for name in ("leaderboard.md", "leaderboard.csv"):
        made, kept = ((folder / name).read_text() for folder in (tmp_path, ROOT / "results" / "leaderboard"))
        assert made == kept


def test_facts_that_were_not_stored_follow_from_the_old_rules():
    yes_no = {"metrics": [{"name": "accuracy"}, {"name": "yes_ratio"}], "by": []}
    old = completed({"task_facts": yes_no, "method_facts": {"budget": "share of the prompt's keys that are dropped"}})
    assert old["task_facts"]["chance"] == {"accuracy": 0.5}
    assert old["task_facts"]["unreadable"] == ["unknown", "unparsed", "empty"]
    assert old["method_facts"]["leaves_out"] is True


def test_facts_that_are_stored_stay():
    metrics = [{"name": "error", "higher_is_better": False, "companion": False}, {"name": "recall", "companion": False}]
    today = {
        "task_facts": {"metrics": metrics, "by": [], "chance": {}, "unreadable": []},
        "method_facts": {"budget": "tokens read by one query", "leaves_out": False},
    }
    assert completed(today) == today


@pytest.mark.parametrize("name", sorted(plugins.files("method")))
def test_what_a_method_declares_is_what_its_budget_said(name):
    node = OmegaConf.load(plugins.files("method")[name])[name]
    cls = target_class({"_target_": node._target_}, f"method.{name}")
    told = completed({"method_facts": {"budget": cls.budget_unit}})["method_facts"]["leaves_out"]
    assert any(hook.leaves_out for hook in cls.hooks) == told


def test_the_report_holds_them(results, tmp_path, capsys):
    assert heed("report", results, "--out", tmp_path / "out") == 0
    assert "7 cells: 5 done, 1 failed, 1 refused" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "leaderboard.csv").open()))
    assert [row["method"] for row in rows if row["task"] == "chair"] == ["dense", "vdd"]
    assert "barely engaged" in (tmp_path / "out" / "leaderboard.md").read_text()


def test_they_are_compared(results, capsys):
    assert heed("compare", "vdd", "dense", "--results", results) == 0
    assert "chair_s" in capsys.readouterr().out


def test_the_gate_judges_them(results, capsys):
    """A failed cell can be compared with nothing, so the verdict is exit code 2; the others pass."""
    assert heed("gate", "--baseline", results, "--candidate", results) == 2
    assert "6 pass, 1 not comparable" in capsys.readouterr().out


def test_their_status_is_told(results, capsys):
    assert heed("status", f"results={results}") == 0
    told = capsys.readouterr().out
    assert "would not change this" in told and "works on pictures" in told


def test_they_are_written_to_the_tracker(results, capsys):
    pytest.importorskip("wandb")
    assert heed("sync", f"results={results}", "tracking=offline") == 0
    assert "5 offline" in capsys.readouterr().out


def test_they_are_exported_with_the_totals_of_the_library(results, tmp_path, capsys):
    assert heed("export", "lm_eval", "--format", "lm-eval", "--results", results, "--out", tmp_path / "out") == 0
    (file,) = (tmp_path / "out").glob("*/results_*.json")
    (totals,) = json.loads(file.read_text())["results"].values()
    assert (totals["acc,none"], totals["acc_norm,none"]) == (0.25, 0.5)


def test_claims_are_judged_by_them(results, capsys):
    assert heed("claims", "--results", results) == 0
    assert "not tested" in capsys.readouterr().out
