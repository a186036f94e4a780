"""An exception in one sample, and memory that does not hold a batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.running.run import RunSettings, execute
from tests.faults import runs
from tests.faults.toys import VARIABLE


def go(model: Path, root: Path, **more: object) -> list[str]:
    settings = RunSettings(root, efficiency="off", batch_tokens=500, **more)  # type: ignore[arg-type]
    return [o.status for o in execute(runs.plan(model), settings)]


@pytest.mark.parametrize(
    ("fault", "statuses", "kind"),
    [
        ({"score": "t4"}, ["failed", "failed"], "ZeroDivisionError"),
        ({"begin": "t4"}, ["done", "failed"], "LookupError"),
    ],
)
def test_an_exception_in_one_sample_is_recorded_and_the_others_are_kept(
    model, calm, tmp_path, monkeypatch, fault, statuses, kind
):
    monkeypatch.setenv(VARIABLE, json.dumps(fault))
    assert go(model, tmp_path) == statuses
    cell = runs.cell_of(tmp_path, "scaled")
    (error,) = (json.loads(line) for line in (cell.path / "errors.jsonl").read_text().splitlines())
    assert (error["id"], error["kind"], cell.n_errors) == ("t4", kind, 1)
    assert "does not like t4" in error["message"] and "toys.py" in error["traceback"]
    assert cell.metrics["failure"] and not cell.done
    kept = runs.answers(tmp_path)
    assert ("scaled", "t4") not in kept and len([k for k in kept if k[0] == "scaled"]) == 9
    assert all(runs.answers(calm)[key] == value for key, value in kept.items())
    monkeypatch.setenv(VARIABLE, json.dumps({"log": str(tmp_path / "log")}))  # repaired: the same command again
    assert set(go(model, tmp_path)) <= {"done", "kept"}
    begun = [line.split()[1:] for line in (tmp_path / "log").read_text().splitlines() if line.startswith("begin")]
    assert begun[1:] == [["t4"]]  # behind the proof: nothing that was finished is computed again
    cell = runs.cell_of(tmp_path, "scaled")
    assert cell.done and cell.n_errors == 0 and not (cell.path / "errors.jsonl").exists()
    assert runs.answers(tmp_path) == runs.answers(calm)
    assert cell.metrics == runs.cell_of(calm, "scaled").metrics
    assert runs.records(tmp_path) == runs.records(calm)


def test_the_tolerance_may_be_raised_and_lowered_afterwards_under_the_same_id(model, calm, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, json.dumps({"begin": "t4"}))
    assert go(model, tmp_path) == ["done", "failed"]
    assert "allow_errors=1 the cell ends without them" in runs.cell_of(tmp_path, "scaled").metrics["failure"]["message"]
    ids = [c.run_id for c in runs.plan(model, runs.SCALED, "allow_errors=1")]
    assert ids == [c.run_id for c in runs.plan(model)]
    assert go(model, tmp_path, allow_errors=1) == ["kept", "done"]  # as the message says
    assert runs.cell_of(tmp_path, "scaled").metrics["n_errors"] == 1
    assert go(model, tmp_path, allow_errors=2) == ["kept", "kept"]
    assert go(model, tmp_path) == ["kept", "failed"]  # it is tried again, and still raises
    monkeypatch.delenv(VARIABLE)
    assert go(model, tmp_path) == ["kept", "done"] and runs.records(tmp_path) == runs.records(calm)


def test_a_cell_may_finish_without_the_samples_that_were_allowed_to_fail(model, calm, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, json.dumps({"begin": "t4"}))
    assert go(model, tmp_path, allow_errors=1) == ["done", "done"]
    cell = runs.cell_of(tmp_path, "scaled")
    assert cell.done and (cell.metrics["n"], cell.metrics["n_errors"], cell.n_errors) == (9, 1, 1)
    assert "n_errors" not in runs.cell_of(tmp_path, "dense").metrics


def test_a_batch_that_does_not_fit_into_memory_is_halved_and_the_run_goes_on(model, calm, tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv(VARIABLE, json.dumps({"memory": 2, "log": str(log)}))
    assert go(model, tmp_path / "halved") == ["done", "done"]
    assert log.read_text().count("out of memory") >= 2  # it did strike
    assert runs.answers(tmp_path / "halved") == runs.answers(calm)
    monkeypatch.delenv(VARIABLE)
    small = RunSettings(tmp_path / "small", efficiency="off", batch_tokens=1)
    assert [o.status for o in execute(runs.plan(model), small)] == ["done", "done"]
    assert runs.answers(tmp_path / "small") == runs.answers(tmp_path / "halved")
    both = [runs.cell_of(tmp_path / name, "scaled").metrics["values"] for name in ("small", "halved")]
    assert both[0] == both[1]
