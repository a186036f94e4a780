"""The run loop on a tiny random Llama folder: records, resuming, failures, limits."""

import io
import json

import pytest

from harness.commands.run import print_skipped
from harness.config.compose import compose
from harness.plan.cells import cells
from harness.plan.limit import evenly
from harness.running.run import RunSettings, execute
from harness.terminal.printing import Terminal
from tests.models.small import save
from tests.records import sealed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model") / "tiny-llama", max_position_embeddings=4096)


def plan(folder, *overrides):
    return cells(
        compose(
            [f"model={folder}", "task=passkey", "task.passkey.lengths=[512]", "task.passkey.depths=[0,100]", *overrides]
        )
    )


def records(root):
    """What must be equal between two runs: everything but times and hardware."""
    files = sorted(p for p in root.glob("runs/*/*") if p.name in sealed.FILES)
    return {str(p.relative_to(root)): sealed.content(p) for p in files}


def test_a_matrix_is_recorded_and_a_second_run_computes_nothing(folder, tmp_path):
    settings = RunSettings(tmp_path, efficiency="off")
    cells_ = plan(folder, "method=[power,quest]")
    assert [o.status for o in execute(cells_, settings)] == ["done"] * 3
    first = records(tmp_path)
    assert [o.status for o in execute(cells_, settings)] == ["kept"] * 3
    assert records(tmp_path) == first
    power = next(c for c in cells_ if c.method_label == "power")
    metrics = json.loads((tmp_path / "runs" / power.run_id / "metrics.json").read_text())
    assert metrics["n"] == 4 and metrics["vs_dense"] is not None and 0 < metrics["usage"]["density"] < 1


def test_an_interrupted_cell_continues_to_the_same_records(folder, tmp_path):
    cells_ = plan(folder, "method=[power]")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for root in (whole, cut):
        execute(cells_, RunSettings(root, efficiency="off", batch_tokens=600))
    for cell in cells_:  # as after a kill: one full line, one torn line, no DONE
        run = cut / "runs" / cell.run_id
        lines = (run / "samples.jsonl").read_bytes().splitlines(keepends=True)
        (run / "samples.jsonl").write_bytes(lines[0] + lines[1][:40])
        (run / "DONE").unlink()
        (run / "metrics.json").unlink()
    execute(cells_, RunSettings(cut, efficiency="off", batch_tokens=600))
    assert records(whole) == records(cut)


def test_batch_size_changes_no_answer(folder, tmp_path):
    cells_ = plan(folder, "method=[power]")
    answers = []
    for budget in (600, 8192):
        root = tmp_path / str(budget)
        execute(cells_, RunSettings(root, efficiency="off", batch_tokens=budget))
        rows = [
            json.loads(x) for c in cells_ for x in (root / "runs" / c.run_id / "samples.jsonl").read_text().splitlines()
        ]
        answers.append(sorted((r["id"], r["text"]) for r in rows))
    assert answers[0] == answers[1]


def test_a_method_that_changes_nothing_fails_its_cell_and_not_the_others(folder, tmp_path):
    outcomes = execute(
        plan(folder, "method=[quest,power]", "method.quest.budget=100000"), RunSettings(tmp_path, efficiency="off")
    )
    assert [o.status for o in outcomes] == ["done", "failed", "done"]
    assert "budget" in outcomes[1].reason
    assert outcomes[1].cell.label not in outcomes[1].reason  # whoever prints the reason names the cell


def test_too_long_for_the_model_names_the_keys(folder, tmp_path):
    outcomes = execute(plan(folder, "task.passkey.lengths=[100000]"), RunSettings(tmp_path, efficiency="off"))
    assert outcomes[0].status == "failed" and "task.passkey.lengths" in outcomes[0].reason


def test_a_model_that_cannot_be_loaded_is_tried_once_and_fails_its_cells(folder, tmp_path, monkeypatch):
    from harness.errors import UserError
    from harness.models.load import ModelSpec

    tried = []

    def load(self):
        tried.append(self.path)
        raise UserError("the weights are torn")

    monkeypatch.setattr(ModelSpec, "load", load)
    outcomes = execute(
        cells(compose([f"model={folder}", "method=[power]", "task=[passkey,recall]"])),
        RunSettings(tmp_path, efficiency="off"),
    )
    assert [o.reason for o in outcomes] == ["the weights are torn"] * 4 and len(tried) == 1


def test_efficiency_is_added_later_without_recomputing_samples(folder, tmp_path):
    cells_ = plan(folder, "method=[dense]")
    execute(cells_, RunSettings(tmp_path, efficiency="off"))
    before = records(tmp_path)
    assert [o.status for o in execute(cells_, RunSettings(tmp_path, efficiency="quick"))] == ["done"]
    assert records(tmp_path) == before
    stored = json.loads((tmp_path / "runs" / cells_[0].run_id / "efficiency.json").read_text())
    assert stored["level"] == "quick" and stored["ttft_ms"]["median"] > 0


def test_limit_covers_the_groups_evenly():
    from harness.contracts.example import Example

    examples = [Example(id=f"{length}-{i}", meta={"length": length}) for length in (1, 2) for i in range(3)]
    assert [e.id for e in evenly(examples, ["length"])][:4] == ["1-0", "2-0", "1-1", "2-1"]


def test_a_limit_smaller_than_the_groups_covers_every_value_of_every_key():
    from harness.contracts.example import Example

    def grid(tasks, lengths, samples=4):
        return [
            Example(id=f"{t}-{n}-{i}", meta={"task": t, "length": n})
            for t in range(tasks)
            for n in lengths
            for i in range(samples)
        ]

    examples = evenly(grid(13, (512, 1024)), ["task", "length"])
    for limit in (13, 20, 26, 40):
        taken = [e.meta for e in examples[:limit]]
        assert {m["task"] for m in taken} == set(range(13)), limit
        assert abs(sum(m["length"] == 512 for m in taken) - limit / 2) <= 1, limit
    few = evenly(grid(2, (0, 25, 50, 75, 100)), ["task", "length"])[:5]  # passkey: two lengths, five depths
    assert {e.meta["task"] for e in few} == {0, 1} and {e.meta["length"] for e in few} == {0, 25, 50, 75, 100}
    assert sorted(e.id for e in examples) == sorted(e.id for e in grid(13, (512, 1024)))


def test_what_a_limit_leaves_out_is_named():
    from harness.contracts.example import Example
    from harness.plan.limit import left_out

    examples = [Example(id=str(i), meta={"task": f"t{i}", "length": 8 * (i % 2)}) for i in range(12)]
    ordered = evenly(examples, ["task", "length"])
    assert left_out(ordered, ["task", "length"], None) == left_out(ordered, ["task", "length"], 12) == ""
    told = left_out(ordered, ["task", "length"], 1)
    assert told == "task t1, t2, t3, t4, t5, t6, t7, t8 and 3 more; length 8"


def test_the_run_says_which_groups_its_limit_leaves_out(folder, tmp_path, capsys):
    from harness.cli import main

    command = [
        "run",
        f"model={folder}",
        "task.passkey.lengths=[320,384]",
        "limit=1",
        "efficiency=off",
        f"results={tmp_path}",
    ]
    assert main(command) == 0
    assert "limit=1 leaves passkey without a sample of length 384; depth" in " ".join(capsys.readouterr().out.split())


def test_perplexity_goes_the_same_road(folder, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 60)
    cells_ = cells(compose([f"model={folder}", "method=[power]", "task=perplexity", f"task.perplexity.path={text}"]))
    assert [o.status for o in execute(cells_, RunSettings(tmp_path, efficiency="off"))] == ["done", "done"]
    dense = json.loads((tmp_path / "runs" / cells_[0].run_id / "metrics.json").read_text())
    assert dense["values"]["ppl"]["value"] > 1


def test_a_method_that_acts_in_decode_alone_cannot_be_scored_by_likelihood(folder, tmp_path):
    cells_ = cells(compose([f"model={folder}", "method=[quest]", "task=perplexity"]))
    outcomes = execute(cells_, RunSettings(tmp_path, efficiency="off"))
    assert [o.status for o in outcomes] == ["done", "refused"] and "quest" in outcomes[1].reason


def test_speed_never_fails_a_cell_that_fills_the_model(tmp_path):
    folder = save(tmp_path / "short", max_position_embeddings=256)
    cells_ = cells(compose([f"model={folder}", "task=perplexity"]))
    assert [o.status for o in execute(cells_, RunSettings(tmp_path, efficiency="quick"))] == ["done"]


def test_the_template_is_part_of_the_prepared_data(tmp_path):
    folder = save(tmp_path / "chatty", chat=True, max_position_embeddings=4096)
    args = [f"model={folder}", "task=passkey", "task.passkey.depths=[0]"]
    for template in ("none", "chat"):
        cells_ = cells(compose([*args, f"model.chatty.template={template}"]))
        execute(cells_, RunSettings(tmp_path, efficiency="off"))
        rows = [
            json.loads(x) for x in (tmp_path / "runs" / cells_[0].run_id / "samples.jsonl").read_text().splitlines()
        ]
        assert all(r["n_prompt_tokens"] <= r["meta"]["length"] for r in rows)


def test_a_length_that_the_model_cannot_read_is_skipped_by_name_and_the_others_go_on(folder, tmp_path):
    settings = RunSettings(tmp_path / "both", efficiency="off")
    both = plan(folder, "method=[power]", "task.passkey.lengths=[512,8192]")
    assert [o.status for o in execute(both, settings)] == ["done"] * 2
    alone = plan(folder, "method=[power]")
    execute(alone, RunSettings(tmp_path / "alone", efficiency="off"))
    for cell, same in zip(both, alone, strict=True):
        run, other = tmp_path / "both" / "runs" / cell.run_id, tmp_path / "alone" / "runs" / same.run_id
        metrics, expected = (json.loads((r / "metrics.json").read_text()) for r in (run, other))
        assert metrics["values"] == expected["values"] and metrics["n_skipped"] == 4
        assert [g["by"]["length"] for g in metrics["groups"] if "length" in g["by"]].count(8192) == 0
        ((reason, n),) = metrics["skipped"].items()
        assert n == 4 and "length 8192 needs 8205 positions" in reason and "has 4096" in reason
    told = Terminal(file=io.StringIO(), width=200)
    print_skipped(tmp_path / "both", both, told)
    assert told.file.getvalue().startswith("skipped 4 of passkey (dense, power): length 8192 needs 8205 positions")


def test_a_task_of_which_no_length_fits_is_refused(folder, tmp_path):
    (outcome,) = execute(plan(folder, "task.passkey.lengths=[8192,16384]"), RunSettings(tmp_path, efficiency="off"))
    assert outcome.status == "failed" and "needs 16397 positions, but model" in outcome.reason
