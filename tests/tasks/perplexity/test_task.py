"""Documents in, windows out, sums back: the worked examples and everything that can be wrong with a file."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from harness.analysis.statistics import aggregate
from harness.contracts.example import Example, Skipped
from harness.contracts.metric import Score
from harness.contracts.question import Likelihood
from harness.contracts.tokens import Tokens
from harness.errors import UserError
from harness.exchange.score import _scored
from harness.models.tokens import TextTokens
from tasks.perplexity import Perplexity
from tests.models import small
from tests.toy import ByteTokens, WordTokens
from zoo.material.text import words


def built(task: Perplexity, tokens: Tokens) -> list[Example]:
    return [e for e in task.examples(tokens) if isinstance(e, Example)]


def ppl(task: Perplexity, outputs: list[tuple[Example, str]]) -> float | None:
    scores = [scored(task, example, text) for example, text in outputs]
    return aggregate(task.metrics[0], [s.metrics for s in scores]).value


def text_file(folder: Path, text: str, name: str = "a.txt") -> str:
    (folder / name).write_text(text, "utf-8")
    return str(folder / name)


FOUR = Example("1", Likelihood((9, 1, 2, 3, 4), 4), meta={"words": 2.0})


def scored(task: Perplexity, example: Example, text: str | None) -> Score:
    return _scored(task, example, text, given=True)


def test_four_tokens_of_one_nat_have_perplexity_e() -> None:
    task = Perplexity()
    assert ppl(task, [(FOUR, "[1, 1, 1, 1]")]) == pytest.approx(math.e)
    assert aggregate(task.metrics[1], [task.score(FOUR, [1.0] * 4).metrics]).value == pytest.approx(math.e**2)


@pytest.mark.parametrize("text", ["[1, 1, Infinity, 1]", "[1, 1, 1e999, 1]"])
def test_an_infinite_nll_gives_an_infinite_perplexity_with_a_flag(text: str) -> None:
    score = scored(Perplexity(), FOUR, text)
    assert score.flags == ("infinite",) and all(math.isfinite(v) for v in score.metrics.values())
    assert ppl(Perplexity(), [(FOUR, text), (FOUR, "[1, 1, 1, 1]")]) == math.inf


def test_a_nan_is_never_passed_on() -> None:
    score = scored(Perplexity(), FOUR, "[1, 1, NaN, 1]")
    assert score.flags == ("infinite", "nan") and all(math.isfinite(v) for v in score.metrics.values())
    assert ppl(Perplexity(), [(FOUR, "[1, 1, NaN, 1]")]) == math.inf


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        (None, "empty"), ("", "empty"), (" \n", "empty"), ("no", "unparsed"), ("{}", "unparsed"), ("1", "unparsed"),
        ("[1, 2", "unparsed"), ('["1", 2, 3, 4]', "unparsed"), ("[true, 1, 1, 1]", "unparsed"), ("[null]", "unparsed"),
        ("[" * 100_000, "unparsed"), ("[" + "1" * 400 + ",1,1,1]", "unparsed"), ("[1, 1, 1]", "wrong_length"),
        ("[]", "wrong_length"),
    ],
    ids=lambda value: str(value)[:12],
)  # fmt: skip
def test_garbage_adds_no_tokens_and_never_raises(text: str | None, flag: str) -> None:
    task = Perplexity()
    score = scored(task, FOUR, text)
    assert score.flags == (flag,) and score.metrics == {"nll_sum": 0.0, "tokens": 0.0, "words": 0.0}
    assert ppl(task, [(FOUR, text or ""), (FOUR, "[1, 1, 1, 1]")]) == pytest.approx(math.e)


@pytest.mark.parametrize("tokens", [ByteTokens(), WordTokens()], ids=lambda t: t.name)
def test_all_tokens_but_the_first_are_predicted_whatever_the_window(tokens: Tokens) -> None:
    for window, stride in ((64, 64), (64, 16), (4096, 1024)):
        task = Perplexity(window=window, stride=stride, max_tokens=1000)
        found = built(task, tokens)
        assert sum(e.question.n_scored for e in found) == 999
        assert all(len(e.question.ids) <= window for e in found) and found[0].id == "essay@0"
        scored = [i for e in found for i in e.question.ids[-e.question.n_scored :]]
        assert scored == tokens.encode(words.essay())[1:1000]


def test_a_start_token_stands_before_every_window_where_the_tokenizer_has_one() -> None:
    task = Perplexity(window=64, stride=32, max_tokens=200)
    assert {e.question.ids[0] for e in built(task, ByteTokens())} == {256}
    assert {e.meta["n_bos"] for e in built(task, ByteTokens())} == {1}
    assert {e.meta["n_bos"] for e in built(task, ByteTokens(bos=()))} == {0}


def test_words_add_up_to_those_the_tokens_cover(tmp_path: Path) -> None:
    task = Perplexity(path=text_file(tmp_path, "one two three four five six"), window=8, stride=4)
    assert sum(e.meta["words"] for e in built(task, ByteTokens())) == pytest.approx(6)
    task = Perplexity(path=task.path, window=8, stride=4, max_tokens=15)  # ends inside "four"
    assert sum(e.meta["words"] for e in built(task, ByteTokens())) == pytest.approx(3)


def test_position_buckets_count_what_a_prediction_can_see() -> None:
    task = Perplexity(window=4, stride=2, buckets=[2])
    first = Example("1", Likelihood((5, 6, 7, 8), 3))
    sums = task.score(first, [1.0, 2.0, 3.0]).metrics
    assert (sums["nll_sum@0-2"], sums["tokens@0-2"]) == (1, 1) and (sums["nll_sum@2-4"], sums["tokens@2-4"]) == (5, 2)


def test_documents_are_clusters_unless_there_is_only_one(tmp_path: Path) -> None:
    text_file(tmp_path, "the first document " * 9)
    text_file(tmp_path, json.dumps({"text": "second"}) + "\n\n" + json.dumps({"text": "third"}) + "\n", "b.jsonl")
    text_file(tmp_path, "ignored", "notes.md")
    found = built(Perplexity(path=str(tmp_path), window=64, stride=32), ByteTokens())
    assert [e.cluster for e in found if e.id.endswith("@0")] == ["a", "b:1", "b:3"]
    assert sum(e.cluster == "a" for e in found) > 1
    single = built(Perplexity(path=str(tmp_path / "a.txt"), window=64, stride=32), ByteTokens())
    assert [e.cluster for e in single] == [e.id for e in single]


def test_the_built_in_essay_is_named_with_its_digest() -> None:
    digest = words.digest(words.essay())
    task = Perplexity(max_tokens=64)
    assert {e.meta["source"] for e in built(task, WordTokens())} == {f"builtin essay#{digest}"}
    assert task.provenance() == {"essay": digest} and task.data_files() == ()


def test_a_document_of_one_token_is_skipped_and_counted(tmp_path: Path) -> None:
    path = text_file(tmp_path, '{"text": "x"}\n{"text": ""}\n{"text": "xyz"}\n', "a.jsonl")
    found = list(Perplexity(path=path).examples(ByteTokens()))
    assert [(f.id, f.reason) for f in found if isinstance(f, Skipped)] == [
        ("a:1", "1 tokens: there is nothing to predict"),
        ("a:2", "0 tokens: there is nothing to predict"),
    ]
    assert [f.question.n_scored for f in found if isinstance(f, Example)] == [2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "is empty"),
        ("a.jsonl", "\n\n", "is empty"),
        ("a.jsonl", '{"text": "x"}\nno', "line 2 is not JSON"),
        ("a.jsonl", '{"txet": "x"}', "line 1 has no text under perplexity.text_field=text: did you mean 'txet'"),
        ("a.jsonl", '["x"]', "entry 1 holds a text .x., not an object"),
        ("a.jsonl", '{"text": 7}', "line 1: 'text' is a number .7., not a text"),
    ],
)
def test_bad_files_are_refused_when_the_plan_is_made(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Perplexity(path=text_file(tmp_path, text, name)).validate()


def test_missing_paths_empty_folders_and_other_encodings_are_refused(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "no.txt", "does not exist"), (tmp_path, "holds no .txt or .jsonl")):
        with pytest.raises(UserError, match=message):
            Perplexity(path=str(path)).validate()
    (tmp_path / "latin.txt").write_bytes("größe".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        Perplexity(path=str(tmp_path)).validate()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": 64, "stride": 65}, "at most the window"),
        ({"stride": 0}, "at least 1"),
        ({"stride": "half"}, "whole tokens"),
        ({"window": 64.5}, "whole tokens"),
        ({"window": 2, "stride": 1}, "at least 4"),
        ({"max_tokens": 1}, "at least 2"),
        ({"buckets": 0}, "give 1 to"),
        ({"buckets": [8, 4]}, "edges rise"),
        ({"buckets": [8, 9999]}, "edges rise"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Perplexity(**wrong).validate()  # type: ignore[arg-type]


def test_figures_show_the_curve_and_keep_infinite_buckets_apart(tmp_path: Path) -> None:
    task = Perplexity(window=4, stride=4, buckets=2)
    example = Example("1", Likelihood((5, 6, 7, 8), 3))
    rows = [{"id": t, "metrics": scored(task, example, t).metrics} for t in ("[1, 2, 3]", "[3, 2, Infinity]", "")]
    png, table = task.figures(rows, tmp_path / "new")
    assert png.read_bytes()[:4] == b"\x89PNG"
    with table.open() as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["position_from", "position_below", "tokens", "nll", "ppl"]
    assert lines[1][:4] == ["0", "2", "2", "2.0"] and lines[2] == ["2", "4", "4", "inf", "inf"]
    assert task.figures([], tmp_path) == []


def test_windows_of_a_chat_model_begin_with_the_bos_of_its_tokenizer(tmp_path: Path) -> None:
    task = Perplexity(path=text_file(tmp_path, "abcdefghij" * 3), window=16, stride=8)
    chat, plain = (built(task, TextTokens(small.tokenizer(chat=chat), name="t")) for chat in (True, False))
    assert chat == plain and all(e.question.ids[0] == small.BOS and e.meta["n_bos"] == 1 for e in chat)
