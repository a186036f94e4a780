"""CHAIR is never printed without recall and length next to it."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.analysis.summarise import summarise
from harness.identity.run_id import run_id
from harness.records.store import CellStore, read_cells
from harness.report.terminal import render
from harness.terminal.printing import Terminal
from tasks.chair import Chair
from tests.tasks.chair.material import example

CAPTIONS = {"dense": ["A dog and two cats.", "A person."], "short": ["A dog.", "A dog."]}


def stored(root: Path, method: str, dense: list | None) -> list[dict]:
    rows = []
    for number, caption in enumerate(CAPTIONS[method], start=1):
        score = Chair().score(example(["dog", "person"], str(number)), caption)
        rows.append(
            {"id": str(number), "cluster": str(number), "meta": {}, "metrics": dict(score.metrics), "flags": []}
        )
    facts = {"metrics": [asdict(metric) for metric in Chair.metrics], "by": []}
    config = {
        "labels": {"model": "m", "task": "chair", "method": method},
        "identity": {"method": {"name": method}},
        "task_facts": facts,
    }
    with CellStore(root, run_id(config["identity"]), config) as store:
        store.append(rows)
        store.finish(summarise(facts, rows, dense))
    return rows


@pytest.mark.parametrize("width", [80, 126])
def test_the_terminal_table_has_them_side_by_side(tmp_path: Path, width: int) -> None:
    dense = stored(tmp_path, "dense", None)
    stored(tmp_path, "short", dense)
    out = io.StringIO()
    render(read_cells(tmp_path), Terminal(file=out, width=width, color_system=None))
    lines = out.getvalue().splitlines()
    head = next(line for line in lines if "chair_s" in line and "chair_i" in line)
    assert all(name in head for name in ("recall", "f1", "length"))
    values = [line.split() for line in lines[lines.index(head) + 1 :] if line.startswith(("dense ", "short "))]
    expected = {"dense": ["50.00", "33.33", "50.00", "57.14", "66.67", "4.5", "100.00"],
                "short": ["0.00 ?", "0.00 ?", "50.00 ?", "66.67 ?", "100.00 ?", "3 ?", "100.00 ?"]}  # fmt: skip
    # two pictures tell nothing about a difference
    assert {name: " ".join(cells) for name, *cells in values} == {name: " ".join(row) for name, row in expected.items()}
    notes = ("?",)  # left to the terminal to wrap
    assert all(len(line.rstrip()) <= width for line in lines if not line.startswith(notes))


@pytest.mark.parametrize(("width", "intervals"), [(80, False), (200, True)])
def test_every_other_metric_has_its_paired_difference_below_it(tmp_path: Path, width: int, intervals: bool) -> None:
    dense = stored(tmp_path, "dense", None)
    stored(tmp_path, "short", dense)
    out = io.StringIO()
    render(read_cells(tmp_path), Terminal(file=out, width=width, color_system=None))
    (line,) = (line for line in out.getvalue().splitlines() if line.startswith("  vs dense"))
    assert ("[" in line) == intervals and "-33.33" in line and "-1.5" in line
