"""Typed questions stand in files as they always did: rows, digests and written answers of the version before them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.asker import asker_of
from harness.contracts.example import Example
from harness.contracts.question import (
    Dialogue,
    Generate,
    GenerateUntil,
    Likelihood,
    LogLikelihood,
    Predict,
    Question,
    Requests,
    RollingLogLikelihood,
    Unreadable,
)
from harness.errors import UserError

# rows as `heed data` wrote them when an example held everything itself, with the digest of what was asked
KINDS: dict[str, type[Question]] = {k.__name__: k for k in (Generate, Dialogue, Likelihood, Requests)}
BEFORE = [json.loads(line) for line in (Path(__file__).parent / "rows_before.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stored", BEFORE, ids=lambda stored: stored["row"]["id"])
def test_a_row_of_the_version_before_is_read_and_written_again(stored: dict[str, Any]) -> None:
    kind, row = KINDS[stored["kind"]], stored["row"]
    example = Example.from_row(row, kind)
    again = json.loads(json.dumps(example.to_row()))
    assert again == row and isinstance(example.question, kind) and example.digest == stored["digest"]
    if kind is not Requests:  # there `meta` has its keys in another order
        assert list(again) == list(row)


def test_requests_are_typed_and_their_records_keep_them_in_meta() -> None:
    row = BEFORE[-1]["row"]
    example = Example.from_row(row, Requests)
    pair, until, rolling = example.asks(Requests).requests
    assert pair == LogLikelihood(0, " 7") and rolling == RollingLogLikelihood("A text", 4)
    assert until == GenerateUntil(0, (".",), 6, {"until": ["."]})
    assert example.meta == {"task": "toy"} and json.loads(json.dumps(example.meta_row())) == row["meta"]


ANSWERS: list[tuple[Question, Any, str]] = [
    (Generate(), "a „b“\n", "a „b“\n"),
    (Generate(), "", ""),
    (Dialogue(turns=("x",)), ["ja", "„nein“"], '["ja", "„nein“"]'),
    (Likelihood((1, 2, 3), 2), [0.123457, 2.0], "[0.123457, 2.0]"),
    (Requests((LogLikelihood(0, "a"), RollingLogLikelihood("b"), GenerateUntil(0, (), 3)), ("c",)),
     [[-1.5, True], -2.25, "x"], '[[-1.5, true], -2.25, "x"]'),
    (Predict({"input_ids": (1, 2)}, positions=(0, 1)), [[0.5, 1.0], [2.0, -1.0]], "[[0.5, 1.0], [2.0, -1.0]]"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "value", "text"), ANSWERS, ids=lambda v: type(v).__name__)
def test_an_answer_is_written_and_read_back(question: Question, value: Any, text: str) -> None:
    assert question.write(value) == text and question.read(text) == value


@pytest.mark.parametrize(
    ("question", "text", "flag"),
    [
        (Dialogue(turns=("x",)), "yes", "unparsed"),
        (Likelihood((1, 2, 3), 2), "[1]", "wrong_length"),
        (Likelihood((1, 2), 1), '["a"]', "unparsed"),
        (Requests((LogLikelihood(0, "a"),), ("c",)), "[-1.0]", "unparsed"),
        (Requests((GenerateUntil(0, (), 3),), ("c",)), "[1]", "unparsed"),
        (Requests((GenerateUntil(0, (), 3),), ("c",)), "[]", "wrong_length"),
    ],
)
def test_a_text_that_is_no_answer_to_the_question_says_why(question: Question, text: str, flag: str) -> None:
    with pytest.raises(Unreadable, match=flag):
        question.read(text)


def test_every_kind_names_an_asker_that_there_is() -> None:
    for kind in (Generate, Dialogue, Likelihood, Requests, Predict):
        assert type(asker_of(kind)).__name__ == f"{kind.__name__}Asker" and asker_of(kind) is asker_of(kind)


def test_a_row_of_another_kind_is_no_example_of_the_task() -> None:
    with pytest.raises(UserError, match="'requests' is missing"):
        Example.from_row(BEFORE[0]["row"], Requests)
    with pytest.raises(TypeError, match="asks a Generate, not a Likelihood"):
        Example("a").asks(Likelihood)
