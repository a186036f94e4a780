"""A kind of question that the engine has never heard of takes the whole road: it is planned, priced, proven, asked, stored,
gone on with, written to a file and scored, from the one file `tests/asking/sixth.py`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.compose import compose
from harness.contracts.example import Example
from harness.exchange.data import write_examples
from harness.exchange.score import rescore
from harness.plan.cells import Cell, cells
from harness.pricing.price import Pricing
from harness.records.cells import CellRecord, read_cells
from harness.running.run import RunSettings, execute
from tests.asking.sixth import Endings, Repeats
from tests.models import small
from tests.toy_probes import Peak

METHODS = ["method=[dense,streaming,snapkv]", "method.streaming.block_size=8", "method.streaming.recent=24",
           "method.streaming.sinks=4"]  # fmt: skip


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    folder = small.save(tmp_path_factory.mktemp("model"), max_position_embeddings=1024)
    return cells(
        compose([f"model={folder}", "task=[]", "+task.repeats={_target_: tests.asking.sixth.Repeats}", *METHODS])
    )


@pytest.fixture(scope="module")
def records(plan: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> dict[str, CellRecord]:
    root = tmp_path_factory.mktemp("results")
    statuses = {o.cell.method_label: (o.status, o.reason) for o in execute(plan, RunSettings(root, batch_tokens=600))}
    assert {label: status for label, (status, _) in statuses.items()} == {
        "dense": "done", "streaming": "done", "snapkv": "refused",
    }  # fmt: skip
    assert "acts only after the prompt" in statuses["snapkv"][1]
    return {cell.labels["method"]: cell for cell in read_cells(root) if cell.done}


def test_it_is_priced_and_refused_before_anything_is_loaded(plan: list[Cell], tmp_path: Path) -> None:
    prices = {c.method_label: Pricing(plan, RunSettings(tmp_path)).price(c) for c in plan}
    dense = prices["dense"]
    assert dense.asked is not None and (dense.asked.count, dense.asked.new) == (6, 0)
    assert dense.cost is not None and dense.cost.scored and dense.flops and dense.seconds
    assert "acts only after the prompt" in prices["snapkv"].refused


def test_a_probe_cannot_look_at_several_prompts_at_once_and_is_refused_in_the_same_words(
    plan: list[Cell], tmp_path: Path
) -> None:
    probed = [replace(plan[0], method=Peak(), method_label="peak")]
    said = Pricing(probed, RunSettings(tmp_path)).price(probed[0]).refused
    (outcome,) = execute(probed, RunSettings(tmp_path))
    assert (outcome.status, outcome.reason) == ("refused", said)
    assert said.startswith("Probe 'peak' looks at one prompt for each example")


def test_it_is_proven_answered_and_stored(records: dict[str, CellRecord]) -> None:
    proof = json.loads((records["streaming"].path / "engaged.json").read_text())
    assert proof["restored"] and proof["logits_moved"] > 1e-3 and proof["density"] < 1
    for label, cell in records.items():
        rows = cell.samples()
        assert len(rows) == 6 and all(row["text"] == json.dumps(row["parsed"]) for row in rows)
        assert all(isinstance(row["parsed"], int) and row["n_new_tokens"] == 0 for row in rows)
        assert all(((row["usage"].get("density") or 1.0) < 1) is (label == "streaming") for row in rows)
    assert records["streaming"].metrics["vs_dense"] is not None


def test_what_is_finished_is_not_asked_again(plan: list[Cell], records: dict[str, CellRecord]) -> None:
    root = records["dense"].path.parents[1]
    done = [o.status for o in execute(plan, RunSettings(root, batch_tokens=600)) if o.cell.method_label != "snapkv"]
    assert done == ["kept", "kept"]


def test_its_answers_are_scored_from_files(plan: list[Cell], records: dict[str, CellRecord], tmp_path: Path) -> None:
    task = Repeats()
    summary = write_examples(task, plan[0].spec.tokens(), tmp_path / "data.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    assert summary["n"] == 6 and [Example.from_row(row, Endings) for row in rows] == list(
        task.examples(plan[0].spec.tokens())
    )
    outputs = [{"id": row["id"], "text": row["text"]} for row in records["dense"].samples()]
    outputs[0]["text"], outputs[1]["text"] = "the second one", ""
    (tmp_path / "outputs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in outputs))
    found = rescore(task, tmp_path / "data.jsonl", tmp_path / "outputs.jsonl", tmp_path / "scores.json")
    scores = {e["id"]: e for e in found["examples"]}
    stored = {row["id"]: row for row in records["dense"].samples()}
    assert [scores[o["id"]]["flags"] for o in outputs[:2]] == [["unparsed"], ["empty"]]
    assert all(scores[o["id"]]["metrics"] == stored[o["id"]]["metrics"] for o in outputs[2:])
