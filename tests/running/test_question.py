"""`question=decode` through whole runs: what is refused, shared, recorded and shown."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from harness.analysis.board_rows import rows_for_table
from harness.asking.decoding import GREEDY
from harness.commands.compare import _named
from harness.config.compose import compose
from harness.models import kept_model
from harness.models.load import ModelSpec
from harness.plan.cells import cells
from harness.plan.refusals import Facts, refusal
from harness.plan.sharing import groups
from harness.pricing.burden import Burden
from harness.pricing.burden import of as burden_of
from harness.records.cells import read_cell
from harness.report import markdown, table_csv
from harness.report.board import board
from harness.report.terminal import render
from harness.running.run import RunSettings, execute
from methods.selection.quest import Quest
from tests.models.small import save

ROOT = Path(__file__).parents[2]
PLAN = (
    "method=[quest,snapkv,h2o]", "+method.quest_d=${method.quest}", "method.quest_d.question=decode",
    "+method.snapkv_d=${method.snapkv}", "method.snapkv_d.question=decode", "+method.h2o_d=${method.h2o}",
    "method.h2o_d.question=decode", "method.quest.dense_layers=0", "method.quest_d.dense_layers=0",
    "task=passkey", "task.passkey.lengths=[300,340]", "task.passkey.depths=[0,100]",
    "task.passkey.trials=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model") / "tiny-llama", max_position_embeddings=4096)


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    """(cells, results with sharing, results without)."""
    made, roots = cells(compose([f"model={folder}", *PLAN])), []
    for share in (True, False):
        roots.append(tmp_path_factory.mktemp("results"))
        found = execute(made, RunSettings(roots[-1], efficiency="off", batch_tokens=2048, share=share))
        assert {o.status for o in found} == {"done"}, [o.reason for o in found]
    return made, *roots


def rows(root, cell):
    return [json.loads(line) for line in (root / "runs" / cell.run_id / "samples.jsonl").read_text().splitlines()]


def test_only_cells_with_one_choice_share_a_prefill_and_answers_are_those_of_a_cell_alone(done):
    made, shared, alone = done
    together = [[c.method_label for c in group] for group in groups(made, GREEDY)]
    assert together == [["dense", "quest"], ["snapkv", "h2o"], ["quest_d"], ["snapkv_d", "h2o_d"]]
    for cell in made:
        one, other = rows(shared, cell), rows(alone, cell)
        assert {tuple(row.pop("shared", ())) for row in one} <= {(), ("prefill",)}
        assert one == other, cell.method_label


def test_the_choice_is_in_the_identity_and_in_every_record(done):
    made, root, _ = done
    by = {c.method_label: c for c in made}
    assert len({c.run_id for c in made}) == len(made)
    for name, phase in (("quest", "prefill"), ("quest_d", "decode"), ("dense", "")):
        config = json.loads((root / "runs" / by[name].run_id / "config.json").read_text())
        assert config["method_facts"]["question"] == phase
        assert config["identity"]["method"]["params"].get("question", "") == phase
    asked = {row.get("n_question_tokens") for row in rows(root, by["quest_d"])}
    text = "What is the pass key? The pass key is"
    assert asked == {len(text)}  # one token for each byte
    assert not any("n_question_tokens" in row for row in rows(root, by["quest"]))
    assert [row["n_prompt_tokens"] for row in rows(root, by["quest_d"])] == [
        r["n_prompt_tokens"] for r in rows(root, by["quest"])
    ]


def shown(found, root):
    console = Console(file=io.StringIO(), width=200)
    render([read_cell(root / "runs" / c.run_id) for c in found], console)
    return console.file.getvalue()


def test_no_number_stands_without_its_protocol(done):
    made, root, _ = done
    table = shown(made, root)
    assert table.count("q: prefill") == 3 and table.count("q: decode") == 3 and "q: the phase in which" in table
    alike = [c for c in made if c.method_label in ("dense", "quest_d", "h2o_d")]
    assert "question in the decode" in shown(alike, root) and "q: " not in shown(alike, root)
    stored = [read_cell(root / "runs" / c.run_id) for c in made]
    assert {r["method"]: r["question"] for r in rows_for_table(stored)}["h2o_d"] == "decode"
    text = markdown.render(board(stored))
    assert "quest\\_d (question decode)" in text and "| quest (question prefill)" in text and "dense (" not in text
    lines = list(csv.DictReader(io.StringIO(table_csv.render(board(stored)))))
    assert {line["method"]: line["question"] for line in lines}["snapkv_d"] == "decode"
    assert [_named("A", c) for c in stored if c.labels["method"] in ("dense", "quest_d")] == [
        "A",
        "A (question in the decode)",
    ]


@pytest.mark.parametrize("kind", ["requests", "nll"])
def test_a_task_that_declares_no_question_is_refused_with_the_remedy(folder, tmp_path, kind):
    from tasks.passkey import Passkey

    class Mute(Passkey):
        says_question = False

    task = ["task=passkey", "task.passkey.lengths=[300]"] if kind == "requests" else ["task=perplexity"]
    made = cells(
        compose([f"model={folder}", "method=[quest]", "method.quest.question=decode", "baseline=false", *task])
    )
    if kind == "requests":
        made = [type(c)(**{**vars(c), "task": Mute(lengths=[300], depths=[0], trials=1)}) for c in made]
    planned = refusal(made[0], Facts(4096, False), "greedy")
    [outcome] = execute(made, RunSettings(tmp_path, efficiency="off"))
    assert outcome.status == "refused" and not outcome.bug
    expected = "Set method.quest.question=prefill" if kind == "requests" else "acts only after the prompt"
    assert expected in outcome.reason and "\n" not in outcome.reason
    assert planned and planned in outcome.reason  # the dry run says the same


def test_the_paper_preset_is_the_protocol_of_each_release():
    published = {
        "quest": "decode",
        "snapkv": "prefill",
        "h2o": "prefill",
        "streaming_kv": "prefill",
        "kvpress": "decode",
    }
    for preset in ("ci", "small", "paper"):
        values = yaml.safe_load((ROOT / "configs" / "preset" / f"{preset}.yaml").read_text())
        chosen = {name: values[name]["question"] for name in published}
        assert chosen == (published if preset == "paper" else dict.fromkeys(published, "prefill"))


def test_the_price_moves_the_question_from_the_prefill_to_the_decode():
    made = burden_of(Quest(question="decode"), 1, "auto")
    assert made.split(1000, 5) == (968, 4 + 32) and made.assumed == ("questions of 32 tokens, read one by one",)
    assert burden_of(Quest(question="prefill"), 1, "auto").split(1000, 5) == (1000, 4) == Burden().split(1000, 5)
    assert made.split(10, 1) == (1, 9)


TASKS = ("passkey", "landmark", "infinitebench", "recall", "messages", "ruler", "strict")


@pytest.mark.parametrize("name", TASKS)
def test_tasks_say_where_their_question_begins(name):
    from tasks.passkey import Passkey
    from tasks.recall import Recall
    from tasks.ruler import Ruler

    strict = Ruler(mode="strict", words="builtin", lengths=[1024], samples=1, tasks=("niah_single_1", "vt", "fwe"))
    task = {
        "passkey": Passkey(lengths=[256], depths=[50], trials=1),
        "landmark": Passkey(style="landmark", lengths=[500], trials=1),
        "infinitebench": Passkey(style="infinitebench", lengths=[58], trials=1),
        "recall": Recall(facts=[2], lengths=[256], samples=1),
        "messages": Recall(facts=[2], lengths=[256], samples=1, style="messages"),
        "ruler": Ruler(lengths=[1024], samples=1), "strict": strict,
    }[name]  # fmt: skip
    patterns = {  # with which kvpress cuts the question out of RULER's prompts
        "niah": ("What is the special magic", "What are all the special magic"), "vt": ("Question: Find all variables",),
        "cwe": ("Question: What are the 10 most common words",), "fwe": ("Question: Do not provide any explanation.",),
        "qa": ("Answer the question based on the given documents.",), "passkey": ("What is the pass key?",),
        "recall": ("User: What is my favorite", "What is my favorite"),
    }  # fmt: skip
    view = kept_model.load(ModelSpec(path="micro-lm"))
    for example in (e for e in task.examples(view) if hasattr(e, "question")):
        last = (
            example.question.prompt
            if isinstance(example.question.prompt, str)
            else example.question.prompt[-1]["content"]
        )
        assert last.endswith(example.question.query)
        found = patterns[example.task.partition("_")[0]]
        assert example.question.query.startswith(found)
        assert len(last) - len(example.question.query) == last.rfind(
            next(p for p in found if example.question.query.startswith(p))
        )
        assert type(example).from_row(example.to_row()) == example
