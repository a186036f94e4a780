"""Cells of `task=lm_eval` from the configuration to the records, on a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config.compose import compose
from harness.plan.cells import Cell, cells
from harness.running.run import Outcome, RunSettings, execute
from tests.models.small import save
from tests.records import sealed

pytest.importorskip("lm_eval")  # the optional extra


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "tiny", max_position_embeddings=512)


def plan(model: Path, folder: Path, *overrides: str) -> list[Cell]:
    return cells(compose([f"model={model}", "task=lm_eval", f"task.lm_eval.include=[{folder}]", *overrides]))


def run(plan: list[Cell], root: Path, **more: Any) -> list[Outcome]:
    return execute(plan, RunSettings(root, efficiency="off", **more))


def records(root: Path) -> dict[str, bytes]:
    files = [p for p in sorted(root.glob("runs/**/*")) if p.name in (*sealed.FILES, "summary.json")]
    return {str(p.relative_to(root)): sealed.content(p) for p in files}


def rows(root: Path, cell: Cell) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "runs" / cell.run_id / "samples.jsonl").read_text().splitlines()]


def test_a_matrix_over_all_kinds_of_requests_is_recorded(model: Path, folder: Path, tmp_path: Path) -> None:
    planned = plan(model, folder, "task.lm_eval.tasks=[toy,toy_sums,toy_text]", "method=[sliding]")
    assert [o.status for o in run(planned, tmp_path)] == ["done", "done"]
    sliding = planned[1]
    metrics = json.loads((tmp_path / "runs" / sliding.run_id / "metrics.json").read_text())
    assert metrics["n"] == metrics["n_paired"] == 28 and metrics["usage"]["density"] < 1
    assert set(metrics["values"]) >= {"acc", "perplexity", "exact_match,first-number", "word_perplexity"}
    assert [g["by"]["task"] for g in metrics["groups"]] == ["toy_choice", "toy_last", "toy_sums", "toy_text"]
    texts = [{r["id"]: r["text"] for r in rows(tmp_path, c)} for c in planned]
    assert texts[0].keys() == texts[1].keys() and texts[0] != texts[1]
    assert [o.status for o in run(planned, tmp_path)] == ["kept", "kept"]


def test_the_library_s_results_stand_beside_the_records(model: Path, folder: Path, tmp_path: Path) -> None:
    planned = plan(model, folder, "task.lm_eval.tasks=[toy,toy_words]")
    run(planned, tmp_path)
    found = json.loads((tmp_path / "runs" / planned[0].run_id / "summary.json").read_text())
    metrics = json.loads((tmp_path / "runs" / planned[0].run_id / "metrics.json").read_text())
    # all tasks of `toy` have as many documents, so its weighted mean is that over all of them
    assert found["groups"]["toy"]["acc,none"] == pytest.approx(metrics["values"]["acc"]["value"])
    assert (
        found["group_subtasks"] == {"toy": ["toy_choice", "toy_last"]} and "bleu,none" in found["results"]["toy_words"]
    )
    assert found["n-shot"]["toy"] == 0 and found["higher_is_better"]["toy"]["perplexity"] is False


def test_an_interrupted_cell_continues_to_the_same_records(model: Path, folder: Path, tmp_path: Path) -> None:
    planned = plan(model, folder, "task.lm_eval.tasks=[toy_choice,toy_sums]", "method=[sliding]")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for root in (whole, cut):
        run(planned, root, batch_tokens=600)
    for cell in planned:  # as after a kill: full lines, one torn line, no DONE
        place = cut / "runs" / cell.run_id
        lines = (place / "samples.jsonl").read_bytes().splitlines(keepends=True)
        (place / "samples.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:40])
        for name in ("DONE", "metrics.json", "summary.json"):
            (place / name).unlink()
    run(planned, cut, batch_tokens=600)
    assert records(whole) == records(cut) and len(records(whole)) == 10


def test_what_acts_after_the_prompt_is_refused_where_only_prompts_are_scored(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    options = ["method=[snapkv]", "method.snapkv.capacity=16", "method.snapkv.window=8"]
    scored = run(plan(model, folder, "task.lm_eval.tasks=[toy_choice,toy_sums]", *options), tmp_path)
    assert [o.status for o in scored] == ["done", "refused"] and "acts only after the prompt" in scored[1].reason
    generated = run(plan(model, folder, "task.lm_eval.tasks=[toy_sums]", *options), tmp_path)
    assert [o.status for o in generated] == ["done", "done"]


def test_documents_that_do_not_fit_are_counted(model: Path, folder: Path, tmp_path: Path) -> None:
    planned = plan(model, folder, "task.lm_eval.tasks=[toy_last]", "task.lm_eval.max_length=60", "method=[sliding]")
    run(planned, tmp_path)
    metrics = json.loads((tmp_path / "runs" / planned[0].run_id / "metrics.json").read_text())
    assert metrics["n_skipped"] > 0 and metrics["n"] + metrics["n_skipped"] == 8
    longer = save(tmp_path / "longer", max_position_embeddings=40)
    short = plan(longer, folder, "task.lm_eval.tasks=[toy_last]")
    run(short, tmp_path)  # the same tokenizer, fewer positions: the prepared examples are not mixed up
    assert (
        json.loads((tmp_path / "runs" / short[0].run_id / "metrics.json").read_text())["n_skipped"]
        > metrics["n_skipped"]
    )


def test_outputs_of_a_run_can_be_scored_again(model: Path, folder: Path, tmp_path: Path) -> None:
    from harness.disk.output import write_rows
    from harness.exchange.data import write_examples
    from harness.exchange.score import rescore
    from harness.models.load import ModelSpec

    planned = plan(model, folder, "task.lm_eval.tasks=[toy_choice,toy_text]")
    run(planned, tmp_path)
    write_examples(planned[0].task, ModelSpec(path=str(model)).tokens(), tmp_path / "examples.jsonl")
    write_rows(tmp_path / "outputs.jsonl", [{"id": r["id"], "text": r["text"]} for r in rows(tmp_path, planned[0])])
    again = rescore(planned[0].task, tmp_path / "examples.jsonl", tmp_path / "outputs.jsonl", tmp_path / "scores.json")
    stored = json.loads((tmp_path / "runs" / planned[0].run_id / "metrics.json").read_text())
    assert again["metrics"] == {name: v["value"] for name, v in stored["values"].items()}
    assert again["scorer"].startswith("lm_eval/") and again["n_missing"] == 0
