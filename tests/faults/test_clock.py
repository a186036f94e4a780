"""A clock that jumps: times in the records are for people, and nothing is decided, sorted or measured by them."""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path

import pytest

import harness
from harness.records.cells import read_cell, read_cells
from tests.faults import runs
from tests.faults.system import STORE, elsewhere, python, shim
from tests.records.test_store import CELL

__all__ = ["shim"]

WALL = {"time", "time_ns", "ctime", "localtime", "gmtime", "now", "utcnow", "today", "strftime"}
SHOWN = {
    "records/provenance.py",  # when a session began and ended
    "report/status.py",  # how long ago a cell was written to
    "commands/status.py",
    "disk/content.py",  # whether a file rests: a clock that is wrong only has it read anew
}


def wall_clock_reads(file: Path) -> list[int]:
    """Lines on which a file asks what time it is."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in WALL
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in ("time", "datetime", "date")
    ]


def test_only_what_shows_times_to_people_asks_what_time_it_is():
    root = Path(harness.__file__).parent
    found = {str(f.relative_to(root)) for f in root.rglob("*.py") if wall_clock_reads(f)}
    assert found == SHOWN


def test_a_clock_that_runs_backwards_changes_no_record(tmp_path, shim):
    for name, clock in (("calm", 0), ("jumps", 1)):
        done = python(STORE, tmp_path / name, env=elsewhere(shim, CLOCK=clock))
        assert done.returncode == 0, done.stderr
    assert runs.records(tmp_path / "calm") == runs.records(tmp_path / "jumps")
    (session,) = read_cell(tmp_path / "jumps" / "runs" / CELL).provenance["sessions"]
    assert session["finished"] < session["started"]  # it did run backwards


@pytest.mark.slow
def test_a_run_and_its_speed_under_a_clock_that_runs_backwards(model, calm, tmp_path, shim):
    env = {**runs.environment(), **elsewhere(shim, CLOCK=1)}
    words = [w if w != "efficiency=off" else "efficiency=quick" for w in runs.command(model, tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert runs.records(tmp_path) == runs.records(calm)
    for cell in read_cells(tmp_path):
        assert 0 < cell.efficiency["ttft_ms"]["median"] < 60_000
    report = [*runs.HEED, "report", str(tmp_path), "--out", str(tmp_path / "page")]
    assert subprocess.run(report, env={**os.environ, **env}, capture_output=True, check=False).returncode == 0
