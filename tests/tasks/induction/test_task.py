"""Induction: what is said twice, what is asked of it, and the score by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.contracts.example import Example
from harness.contracts.question import Predict
from harness.contracts.tokens import Tokens
from harness.errors import UserError
from harness.exchange.score import rescore
from tasks.induction import Induction
from tests.toy import ByteTokens, WordTokens


def built(task: Induction, tokens: Tokens) -> list[Example]:
    return [e for e in task.examples(tokens) if isinstance(e, Example)]


@pytest.mark.parametrize("tokens", [ByteTokens(), ByteTokens(bos=()), WordTokens()], ids=["bytes", "no start", "words"])
def test_the_second_half_says_the_first_again(tokens: Tokens) -> None:
    for example in built(Induction(lengths=[16, 31], samples=3), tokens):
        asked, start = example.asks(Predict), len(tuple(tokens.start_ids))
        ids, n = asked.inputs["input_ids"], (len(asked.inputs["input_ids"]) - start) // 2
        assert ids[:start] == tuple(tokens.start_ids) and ids[start : start + n] == ids[start + n :]
        assert example.meta["length"] - 1 <= len(ids) <= example.meta["length"]
        # all of the second half but its first token, each from the place before it
        assert [at + 1 for at in asked.positions or ()] == list(range(start + n + 1, len(ids)))


def test_examples_are_the_same_every_time_and_more_change_no_earlier_one() -> None:
    few, more = (built(Induction(lengths=[32], samples=n), ByteTokens()) for n in (2, 5))
    assert few == more[:2] == built(Induction(lengths=[32], samples=2), ByteTokens())
    assert len({e.digest for e in more}) == 5
    assert built(Induction(lengths=[32], samples=1, seed=1), ByteTokens())[0].digest != few[0].digest


def test_the_score_is_the_share_of_right_predictions() -> None:
    asked = Predict({"input_ids": (9, 1, 2, 3, 1, 2, 3)}, positions=(4, 5), take="argmax")
    example = Example("a", asked, meta={"length": 7})
    for answer, accuracy in (([2, 3], 1.0), ([2, 9], 0.5), ([0, 0], 0.0)):
        assert Induction().score(example, answer).metrics == {"accuracy": accuracy}
    assert Induction().score(example, None).metrics == {"accuracy": 0.0}
    assert Induction().score(example, None).flags == ("empty",)


@pytest.mark.parametrize(("wrong", "said"), [({"lengths": [4]}, "at least 8"), ({"lengths": [64, 64]}, "only once")])
def test_wrong_parameters_are_refused(wrong: dict[str, list[int]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Induction(**wrong).validate()


def test_outputs_of_others_are_scored_from_the_files(tmp_path: Path) -> None:
    data, outputs = tmp_path / "data.jsonl", tmp_path / "outputs.jsonl"
    made = ["task.induction.lengths=[24]", "task.induction.samples=3"]
    assert main(["data", "task=induction", f"out={data}", *made]) == 0
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    perfect = [[row["input_ids"][at + 1] for at in row["positions"]] for row in (r | r["inputs"] for r in rows)]
    texts: list[object] = [perfect[0], json.dumps(perfect[1]), "none"]
    outputs.write_text("".join(json.dumps({"id": r["id"], "text": t}) + "\n" for r, t in zip(rows, texts, strict=True)))
    found = rescore(Induction(lengths=[24], samples=3), data, outputs, tmp_path / "scores.json")
    assert found["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert [e["flags"] for e in found["examples"]] == [[], [], ["unparsed"]]
