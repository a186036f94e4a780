"""The run loop on pictures: what was cut off goes on to the same records, with and without shared prefills."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config.compose import compose
from harness.plan.cells import Cell, cells
from harness.running.run import RunSettings, execute
from tests import tiny_vlm
from tests.records import sealed

POPE = ["task=pope", "task.pope.scenes=4", "task.pope.n_images=3", "task.pope.k=2", "task.pope.max_new_tokens=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm.save("llava", tmp_path_factory.mktemp("model") / "tiny-llava")


def plan(folder: Path, *overrides: str) -> list[Cell]:
    return cells(compose([f"model={folder}", *POPE, "limit=8", *overrides]))


def answers(root: Path) -> dict[str, dict[str, str]]:
    files = root.glob("runs/*/samples.jsonl")
    return {f.parent.name: {r["id"]: r["text"] for r in map(json.loads, f.read_text().splitlines())} for f in files}


def interrupt(root: Path) -> None:
    """As after a kill: some full lines, one torn line, no DONE."""
    for run in (root / "runs").iterdir():
        lines = (run / "samples.jsonl").read_bytes().splitlines(keepends=True)
        n = len(lines) // 2
        (run / "samples.jsonl").write_bytes(b"".join(lines[:n]) + lines[n][:40])
        (run / "DONE").unlink()
        (run / "metrics.json").unlink()


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(["method=[vcd]"], id="sets"),
        pytest.param(["method=[dense]", "task.pope.chat=true"], id="chat", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_cell_continues_to_the_same_records(folder: Path, tmp_path: Path, more: list[str]) -> None:
    asked, whole, cut = plan(folder, *more), tmp_path / "whole", tmp_path / "cut"
    for root in (whole, cut):
        outcomes = execute(asked, RunSettings(root, efficiency="off", limit=8, batch_tokens=900))
        assert {o.status for o in outcomes} == {"done"}
    interrupt(cut)
    execute(asked, RunSettings(cut, efficiency="off", limit=8, batch_tokens=900))
    assert sealed.rows(cut) == sealed.rows(whole)
    interrupt(cut)  # and with other batches, which are no part of what was asked
    execute(asked, RunSettings(cut, efficiency="off", limit=8, batch_tokens=2500, share=False))
    assert answers(cut) == answers(whole)
