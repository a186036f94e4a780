"""The invariants of the grid: never too long, full to one sentence, the right depth, independent cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.contracts.example import Example, Skipped
from harness.contracts.tokens import Tokens
from harness.errors import UserError
from tasks.passkey import Passkey, prompts
from tests.toy import ByteTokens, WordTokens

DEPTHS = list(range(0, 101, 10))
TOKENS = [ByteTokens(), WordTokens()]


def built(task: Passkey, tokens: Tokens) -> list[Example]:
    found = list(task.examples(tokens))
    assert all(isinstance(e, Example) for e in found)
    return [e for e in found if isinstance(e, Example)]


@pytest.mark.parametrize("filler", ["noise", "essay"])
@pytest.mark.parametrize("tokens", TOKENS, ids=lambda t: t.name)
def test_prompts_fill_the_length_to_one_sentence_and_never_exceed_it(tokens: Tokens, filler: str) -> None:
    task = Passkey(lengths=[512, 2048], depths=DEPTHS, trials=2, filler=filler)
    sentences = prompts.sentences(prompts.NOISE) if filler == "noise" else task._filler_sentences()
    longest = max(tokens.count(" " + s) for s in sentences)
    for example in built(task, tokens):
        used = len(tokens.prompt_ids(example.question.prompt, example.question.answer_prefix))
        assert used == example.meta["n_tokens"] <= example.meta["length"] <= used + longest + 1


@pytest.mark.parametrize("filler", ["noise", "essay"])
@pytest.mark.parametrize("digits", [4, 5, 64])
def test_the_needle_stands_once_at_a_sentence_boundary(digits: int, filler: str) -> None:
    for example in built(Passkey(lengths=[256], depths=DEPTHS, trials=2, digits=digits, filler=filler), WordTokens()):
        key, text = example.references[0], str(example.question.prompt)
        assert len(key) == digits and key[0] != "0" and text.count(key) == 2
        lines = text.split("\n")
        at = lines.index(f"The pass key is {key}. Remember it. {key} is the pass key.")
        assert all(line.endswith((".", "?", '"', "!")) for line in lines[:at]) and "" not in lines


def test_the_depth_is_right_to_one_sentence() -> None:
    for example in built(Passkey(lengths=[4096], depths=DEPTHS, trials=1), WordTokens()):
        assert abs(example.meta["true_depth"] - example.meta["depth"]) < 0.5
        lines = str(example.question.prompt).split("\n")
        assert (len(lines) == 4) == (example.meta["depth"] in (0, 100))


def test_more_lengths_depths_and_trials_change_no_other_cell() -> None:
    tokens = WordTokens()
    few = {e.id: e for e in built(Passkey(lengths=[512], depths=[0, 50], trials=1), tokens)}
    many = {e.id: e for e in built(Passkey(lengths=[256, 512, 1024], depths=[0, 25, 50], trials=3), tokens)}
    assert few.items() <= many.items()


def test_seed_and_cell_change_the_key() -> None:
    tokens = WordTokens()
    tasks = [Passkey(lengths=[256], depths=DEPTHS, trials=2, seed=seed) for seed in (0, 1)]
    keys = [e.references[0] for task in tasks for e in built(task, tokens)]
    assert len(set(keys)) > 40


def test_too_short_lengths_are_skipped_with_the_reason() -> None:
    found = list(Passkey(lengths=[40], depths=[50], trials=1).examples(ByteTokens()))
    assert isinstance(found[0], Skipped) and "more than the length 40" in found[0].reason


def test_needed_positions_include_the_answer() -> None:
    assert Passkey(lengths=[256, 512]).lengths_needed() == 512 + 5 + 8


def test_an_own_essay_is_used_and_part_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "tale.txt"
    path.write_text("A fox ran.\nIt ran far! Did it rest? No.")
    task = Passkey(lengths=[330], depths=[100], trials=1, filler="essay", essay_path=str(path))
    task.validate()
    assert task.data_files() == (path,)
    assert "A fox ran. It ran far! Did it rest? No." in str(built(task, ByteTokens())[0].question.prompt)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"style": "gird"}, "did you mean 'grid'"),
        ({"policy": "first"}, "did you mean 'first_int'"),
        ({"filler": "essays"}, "did you mean 'essay'"),
        ({"lengths": [31]}, "at least 32"),
        ({"lengths": [64, 64]}, "only once"),
        ({"lengths": []}, "at least one length"),
        ({"depths": [101]}, "percentages"),
        ({"digits": 3}, "4 to 64"),
        ({"digits": "five"}, "4 to 64"),
        ({"lengths": ["x"]}, "holds x tokens"),
        ({"trials": 1.5}, "at least 1"),
        ({"trials": 0}, "at least 1"),
        ({"style": "landmark", "filler": "essay"}, "use passkey.style=grid"),
        ({"style": "longlora", "lengths": [4096]}, "steps of 1000 tokens"),
        ({"essay_path": "x.txt"}, "passkey.filler=essay"),
        ({"filler": "essay", "essay_path": "missing.txt"}, "not a file"),
    ],
)
def test_wrong_parameters_are_refused_with_a_way_out(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Passkey(**wrong).validate()  # type: ignore[arg-type]


def test_a_single_number_is_a_list_of_one() -> None:
    assert Passkey(lengths=256, depths=50) == Passkey(lengths=[256], depths=[50.0])  # type: ignore[arg-type]


def test_none_and_the_styles_own_value_are_the_same_task() -> None:
    assert Passkey() == Passkey(depths=DEPTHS, trials=10, policy="first_digits", max_new_tokens=13)
