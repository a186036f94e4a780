"""Rows of ours and of the reference."""

import pytest

from harness.errors import UserError
from tasks.ruler import Ruler
from tests.toy import WordTokens

OFFICIAL = {"index": 1234, "input": "Find it.", "outputs": ["1", "2"], "length": 4090, "answer_prefix": " It is"}


def test_a_written_row_is_read_back_as_the_same_example():
    task = Ruler(tasks=["vt", "qa_1"], lengths=[1024], samples=1)
    for line, example in enumerate(task.examples(WordTokens())):
        row = {**example.to_row(), **task.official_row(example)}
        assert set(row) >= {"index", "input", "outputs", "answer_prefix", "length"}
        assert row["length"] == example.meta["n_tokens"] + example.question.max_new_tokens
        assert task.read_row(row, line).to_row() == example.to_row()


def test_an_official_row_is_filed_under_the_length_that_holds_it():
    example = Ruler(tasks=["cwe"], lengths=[2048, 4096, 8192]).read_row(OFFICIAL, 7)
    assert (example.id, example.meta["length"], example.meta["index"]) == ("1234", 4096, 1234)
    assert (example.question.prompt, example.question.answer_prefix, example.references) == (
        "Find it.",
        " It is",
        ("1", "2"),
    )
    assert example.question.max_new_tokens == 120


@pytest.mark.parametrize(
    ("tasks", "named", "expected"),
    [(["qa_1"], None, 1.0), (["vt"], None, 0.5), (["vt", "qa_1"], None, 0.5), (["vt"], "qa_2", 1.0)],
)
def test_the_metric_of_an_official_row(tasks, named, expected):
    task = Ruler(tasks=tasks)
    row = OFFICIAL | ({"task": named} if named else {})
    assert task.score(task.read_row(row, 0), "1").metrics["score"] == expected


def test_the_id_of_an_official_row_is_its_index_else_its_line():
    bare = {key: value for key, value in OFFICIAL.items() if key != "index"}
    assert [Ruler().read_row(row, 7).id for row in (OFFICIAL, bare)] == ["1234", "7"]


def test_a_row_of_another_kind_is_told():
    with pytest.raises(UserError, match="lacks input, outputs"):
        Ruler().read_row({"question": "?"}, 2)
