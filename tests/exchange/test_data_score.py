"""The verbs `heed data` and `heed score`: examples to a file, outputs to numbers, and files that are wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.contracts.example import Example
from harness.disk.content import file_digest
from harness.disk.output import write_rows
from harness.disk.reading import read_entries
from harness.errors import UserError
from harness.exchange.data import write_examples
from harness.exchange.score import rescore
from harness.models.load import ModelSpec
from tasks.passkey import Passkey
from tasks.perplexity import Perplexity
from tasks.pope import Pope
from tasks.ruler import Ruler
from tests.models import small
from tests.toy import ByteTokens, WordTokens

TASK = Passkey(lengths=[256, 512], depths=[0, 100], trials=2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_examples(TASK, WordTokens(), tmp_path / "data.jsonl")
    return tmp_path / "data.jsonl"


def answers(data: Path, wrong: int = 0) -> list[dict[str, Any]]:
    """The right text for all but the first `wrong` examples."""
    rows = [entry.values for entry in read_entries(data)]
    return [{"id": r["id"], "text": "none" if i < wrong else f" {r['references'][0]}."} for i, r in enumerate(rows)]


def scored(data: Path, rows: list[dict[str, Any]], name: str = "o") -> dict[str, Any]:
    write_rows(data.parent / f"{name}.jsonl", rows)
    return rescore(TASK, data, data.parent / f"{name}.jsonl", data.parent / f"{name}.json")


# -- data ------------------------------------------------------------------------------------------------------------


def test_data_writes_one_line_per_example_and_counts_what_it_skips(tmp_path: Path) -> None:
    task = Passkey(lengths=[40, 512], depths=[0, 100], trials=1)
    summary = write_examples(task, ByteTokens(), tmp_path / "new" / "data.jsonl")
    assert (summary["n"], summary["n_skipped"]) == (2, 2)
    assert summary["sha256"] == file_digest(tmp_path / "new" / "data.jsonl")
    assert list(summary["reasons"].values()) == [2] and summary["skipped"][0]["id"] == "grid-40-d0-0"
    rows = [entry.values for entry in read_entries(tmp_path / "new" / "data.jsonl")]
    assert [Example.from_row(row) for row in rows] == [e for e in task.examples(ByteTokens()) if isinstance(e, Example)]


def test_data_is_the_same_every_time(tmp_path: Path) -> None:
    found = {write_examples(TASK, WordTokens(), tmp_path / name)["sha256"] for name in ("a", "b")}
    assert len(found) == 1


def test_data_with_nothing_to_write_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no example that fits"):
        write_examples(Passkey(lengths=[40], depths=[0], trials=1), ByteTokens(), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_official_keys_stand_beside_our_own(tmp_path: Path) -> None:
    task = Passkey(style="infinitebench", lengths=[3], trials=1)
    write_examples(task, ByteTokens(), tmp_path / "a")
    rows = [entry.values for entry in read_entries(tmp_path / "a")]
    assert {"prompt", "references", "context", "input", "answer"} <= set(rows[0])
    official = [{k: row[k] for k in ("id", "context", "input", "answer")} for row in rows]
    write_rows(tmp_path / "official", official)
    write_rows(tmp_path / "out", [{"id": r["id"], "text": r["answer"][0]} for r in official])
    assert rescore(task, tmp_path / "official", tmp_path / "out", tmp_path / "c.json")["metrics"] == {"accuracy": 1.0}


def written(tmp_path: Path, *overrides: str) -> list[Example]:
    out = tmp_path / "data.jsonl"
    assert main(["data", "task=passkey", "task.passkey.depths=[50]", f"out={out}", *overrides]) == 0
    return [Example.from_row(entry.values) for entry in read_entries(out)]


def test_data_is_made_for_the_tokenizer_and_template_of_the_named_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small.save(tmp_path / "m", chat=True, max_position_embeddings=1024)
    tokens = ModelSpec(path=str(folder)).tokens()
    rows = written(tmp_path, f"model={folder}", "task.passkey.lengths=[512,1024]", "task.passkey.trials=2")
    assert "(template: chat)" in capsys.readouterr().out
    assert {row.meta["length"] for row in rows} == {
        512
    }  # 1024 and the answer have no place in 1024 positions, and is told as skipped
    for row in rows:
        assert row.meta["n_tokens"] == len(tokens.prompt_ids(row.question.prompt, row.question.answer_prefix)) <= 512
    assert [r.question.prompt for r in rows] != [
        r.question.prompt for r in written(tmp_path, "task.passkey.lengths=[512]", "task.passkey.trials=2")
    ]


def test_lengths_that_the_named_model_cannot_read_are_skipped_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["task.passkey.lengths=[256,8192]", "task.passkey.trials=1"]
    assert len(written(tmp_path, *overrides)) == 2  # without a model nothing limits them
    assert len(written(tmp_path, *overrides, "model=micro-lm")) == 1
    assert "1 skipped: {\"length 8192 needs 8205 positions, but model 'micro-lm' has 4096" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "message"),
    [("/nonexistent", "There is no model '/nonexistent'"), ("[micro-lm,micro-vlm]", "takes one model, not 2")],
)
def test_a_model_that_cannot_be_read_is_refused(
    model: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "task=passkey", f"model={model}", f"out={tmp_path / 'd'}"]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "d").exists()


def test_scores_take_no_model(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"examples={data}", f"outputs={data}", f"out={data}.json"]
    assert main(["score", "task=passkey", "model=micro-lm", *files]) == 2
    assert "takes no model" in capsys.readouterr().err


# -- score -----------------------------------------------------------------------------------------------------------


def test_scores_say_what_was_scored_with_numbers_intervals_and_groups(data: Path) -> None:
    result = scored(data, answers(data, wrong=2))
    assert (result["task"], result["scorer"], result["n"]) == ("passkey", "passkey/first_digits", 8)
    assert result["metrics"] == {"accuracy": 0.75} and result["data_sha256"] == file_digest(data)
    low, high = result["intervals"]["accuracy"]
    assert 0 <= low < 0.75 < high <= 1
    cells = {tuple(g["by"].items()): (g["n"], g["metrics"]["accuracy"]) for g in result["groups"]}
    assert cells[("length", 256), ("depth", 0)] == (2, 0.0) and cells[("length", 512),] == (4, 1.0)
    assert result["examples"][0]["flags"] == ["no_number"] and set(result["examples"][0]) == {
        "id", "parsed", "metrics", "flags",
    }  # fmt: skip
    assert json.loads((data.parent / "o.json").read_text()) == json.loads(json.dumps(result))


def test_scoring_again_in_any_order_gives_the_same_bytes(data: Path) -> None:
    rows = answers(data, wrong=3)
    scored(data, rows, "a")
    random.Random(1).shuffle(rows)
    scored(data, rows, "b")
    assert (data.parent / "a.json").read_bytes() == (data.parent / "b.json").read_bytes()


def test_missing_and_empty_outputs_are_counted_apart_and_score_nothing(data: Path) -> None:
    rows = answers(data)[2:]
    rows[0]["text"], rows[1]["text"], rows[2]["finish"] = None, "  ", "error"
    result = scored(data, rows)
    assert (result["n"], result["n_missing"], result["n_empty"], result["n_error"]) == (8, 2, 2, 1)
    assert result["metrics"] == {"accuracy": 0.5}
    assert [e["flags"] for e in result["examples"][:4]] == [["empty", "missing"]] * 2 + [["empty"]] * 2


def test_likelihood_outputs_may_be_lists_and_infinite_numbers_are_stored_as_null(tmp_path: Path) -> None:
    task = Perplexity(window=64, stride=32, max_tokens=100)
    write_examples(task, ByteTokens(), tmp_path / "d")
    sizes = {row["id"]: row["n_scored"] for row in (e.values for e in read_entries(tmp_path / "d"))}
    lists = [{"id": name, "text": [1.0] * n} for name, n in sizes.items()]
    texts = [{"id": name, "text": json.dumps([1.0] * n)} for name, n in sizes.items()]
    for name, rows in (("l", lists), ("t", texts)):
        write_rows(tmp_path / name, rows)
        rescore(task, tmp_path / "d", tmp_path / name, tmp_path / f"{name}.json")
    assert (tmp_path / "l.json").read_bytes() == (tmp_path / "t.json").read_bytes()
    assert json.loads((tmp_path / "l.json").read_text())["metrics"]["ppl"] == pytest.approx(2.718281828)
    texts[0]["text"] = texts[0]["text"].replace("1.0", "Infinity", 1)
    write_rows(tmp_path / "i", texts)
    rescore(task, tmp_path / "d", tmp_path / "i", tmp_path / "i.json")
    stored = json.loads((tmp_path / "i.json").read_text())
    assert stored["metrics"]["ppl"] is None and "metrics.ppl" in stored["nonfinite"]


@pytest.mark.parametrize(
    "asked_of", [Pope(scenes=4, n_images=4, chat=True), Pope(scenes=4, n_images=4)], ids=["of its kind", "found out"]
)
def test_conversations_are_scored_by_lists_of_answers(tmp_path: Path, asked_of: Pope) -> None:
    """An examples file says by itself that it holds conversations, also to a task that was not told."""
    made = Pope(scenes=4, n_images=4, chat=True)
    write_examples(made, ByteTokens(), tmp_path / "data")
    rows = [entry.values for entry in read_entries(tmp_path / "data")]
    right: list[Any] = [row["references"] for row in rows]
    outputs = [
        {"id": r["id"], "text": t if i % 2 else json.dumps(t)} for i, (r, t) in enumerate(zip(rows, right, strict=True))
    ]
    write_rows(tmp_path / "right", outputs)
    found = rescore(asked_of, tmp_path / "data", tmp_path / "right", tmp_path / "r.json")
    assert found["metrics"]["accuracy"] == 1.0 and found["n"] == len(rows)
    write_rows(tmp_path / "odd", [{"id": rows[0]["id"], "text": "yes, no, yes"}])
    odd = rescore(asked_of, tmp_path / "data", tmp_path / "odd", tmp_path / "o.json")
    assert odd["examples"][0]["flags"] == ["unparsed", "unknown"] and odd["metrics"]["accuracy"] == 0.0


def placed(path: Path) -> list[tuple[int, Any]]:
    """(line or entry, content) of every row."""
    return [(entry.at, entry.values) for entry in read_entries(path)]


# -- files that are wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ('{"id": "nobody", "text": ""}', "line 1: no example has the id 'nobody'"),
        (
            '{"id": "grid-256-d0-0", "text": "1"}\n\n{"id": "grid-256-d0-0", "text": "1"}',
            "line 3: the id 'grid-256-d0-0'",
        ),
        ('{"text": "1"}', "line 1: the key 'id' is missing"),
        ('{"id": "grid-256-d0-0"}', "line 1: the key 'text' is missing"),
        ('{"id": "grid-256-d0-0", "text": 5}', "'grid-256-d0-0' is int, not a string"),
        ('{"id": "grid-256-d0-0", "text": "1"}\n{"id"', "line 2 is not JSON"),
        ('"text"', "line 1 holds a text .text., not an object"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("[]", "is empty"),
    ],
)
def test_wrong_outputs_are_refused_with_their_line(data: Path, outputs: str, message: str) -> None:
    (data.parent / "o.jsonl").write_text(outputs)
    with pytest.raises(UserError, match=message):
        rescore(TASK, data, data.parent / "o.jsonl", data.parent / "c.json")
    assert not (data.parent / "c.json").exists()


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ('{"prompt": "x"}', "line 1: the key 'id' is missing"),
        ('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "x"}', "line 2: the id 'a' already stands in line 1"),
        (
            '{"id": "a", "prompt": "x", "max_new_tokens": "many"}',
            "line 1: 'max_new_tokens' is a text .many., not a whole number",
        ),
        ("", "examples file .* is empty"),
    ],
)
def test_wrong_examples_are_refused_with_their_line(tmp_path: Path, examples: str, message: str) -> None:
    (tmp_path / "d").write_text(examples)
    (tmp_path / "o").write_text('{"id": "a", "text": ""}')
    with pytest.raises(UserError, match=message):
        rescore(TASK, tmp_path / "d", tmp_path / "o", tmp_path / "c")


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"outputs file .*none.jsonl does not exist"):
        read_entries(tmp_path / "none.jsonl", "outputs file")
    with pytest.raises(UserError, match="is a folder, not a file"):
        read_entries(tmp_path)
    (tmp_path / "latin").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(UserError, match="not UTF-8"):
        read_entries(tmp_path / "latin")


def test_lists_blank_lines_byte_order_marks_and_odd_separators_are_read(tmp_path: Path) -> None:
    (tmp_path / "list").write_text('[{"id": 1},\n {"id": 2}]')
    assert placed(tmp_path / "list") == [(1, {"id": 1}), (2, {"id": 2})]
    (tmp_path / "lines").write_text('\ufeff{"id": "a\u2028b"}\r\n\r\n{"id": 2}\n')
    assert placed(tmp_path / "lines") == [(1, {"id": "a\u2028b"}), (3, {"id": 2})]


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "a", [{"id": 1}])
    with pytest.raises(ValueError):
        write_rows(tmp_path / "a", [{"id": 2}, {"id": float("nan")}])
    assert placed(tmp_path / "a") == [(1, {"id": 1})] and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_official_rows_with_a_repeated_index_are_matched_in_order(tmp_path):
    rows = [
        {"index": i, "input": "?", "outputs": [o], "answer_prefix": "", "length": 9}
        for i, o in ((5, "a"), (5, "b"), (6, "c"))
    ]
    outputs = [{"id": 5, "text": "a"}, {"id": 6, "text": "c"}, {"id": 5, "text": "b"}]
    for name, content in (("a.jsonl", rows), ("b.jsonl", outputs)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in content))
    result = rescore(Ruler(tasks=["vt"]), tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.json")
    assert [e["id"] for e in result["examples"]] == ["5", "5#2", "6"] and result["metrics"]["score"] == 1.0


# -- outputs in official layouts, and examples that a task has itself -------------------------------------------------


class Named(Passkey):
    """Outputs as another harness writes them."""

    def read_output(self, row: Any, index: int) -> dict[str, Any]:
        return {"id": row["name"], "text": row["answers"][0]}


def test_outputs_are_read_as_the_task_says(data: Path) -> None:
    rows = [{"name": r["id"], "answers": [r["text"]]} for r in answers(data, wrong=2)]
    write_rows(data.parent / "o.jsonl", rows)
    task = Named(lengths=[256, 512], depths=[0, 100], trials=2)
    assert rescore(task, data, data.parent / "o.jsonl", data.parent / "c.json")["metrics"] == {"accuracy": 0.75}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answers": ["1"]}, "line 1: the key 'name' is missing"),
        ({"name": "a", "answers": []}, "line 1: it is no output"),
    ],
)
def test_rows_that_the_task_cannot_read_are_refused_with_their_line(data: Path, row: Any, message: str) -> None:
    write_rows(data.parent / "o.jsonl", [row])
    with pytest.raises(UserError, match=message):
        rescore(Named(), data, data.parent / "o.jsonl", data.parent / "c.json")


def test_a_task_whose_examples_need_a_tokenizer_asks_for_their_file(data: Path) -> None:
    write_rows(data.parent / "o.jsonl", answers(data))
    with pytest.raises(UserError, match="Missing examples=FILE"):
        rescore(TASK, None, data.parent / "o.jsonl", data.parent / "c.json")
