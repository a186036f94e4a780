"""Landmark and LongLoRA prompts are byte-identical to the published generators; the digests come from running those."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from harness.contracts.example import Example
from harness.errors import UserError
from tasks.passkey import Passkey, prompts
from tests.toy import ByteTokens, WordTokens


def examples(task: Passkey) -> Iterator[Example]:
    for example in task.examples(ByteTokens()):
        assert isinstance(example, Example)
        yield example


def digest(task: Passkey) -> str:
    found = hashlib.sha256()
    for example in examples(task):
        found.update((str(example.question.prompt) + example.question.answer_prefix).encode())
    return found.hexdigest()[:16]


@pytest.mark.parametrize(("seed", "expected"), [(0, "73c5f278c8f877bf"), (7, "4bdba8e1ab1688e7")])
def test_landmark_equals_the_reference_seeded_once(seed: int, expected: str) -> None:
    assert digest(Passkey(style="landmark", seed=seed)) == expected  # 13 lengths x 50


def test_longlora_equals_the_reference_seeded_per_prompt() -> None:
    assert digest(Passkey(style="longlora")) == "862c13d40813a9d7"  # 32 steps x 10


def test_landmark_without_filler_keeps_its_empty_lines() -> None:
    example = next(examples(Passkey(style="landmark", lengths=[0])))
    key = example.references[0]
    needle = f"The pass key is {key}. Remember it. {key} is the pass key."
    assert example.question.prompt == f"{prompts.HEAD}\n\n{needle}\n\nWhat is the pass key?"
    assert example.question.answer_prefix == " The pass key is"


def test_landmark_filler_restarts_and_is_cut_by_characters() -> None:
    example = next(examples(Passkey(style="landmark", lengths=[500], seed=3)))
    _, before, _, after, _ = str(example.question.prompt).split("\n")
    assert len(before) + len(after) == 500
    assert after == prompts.noise_characters(len(after)) and before == prompts.noise_characters(len(before))


def test_longlora_lengths_are_blocks_of_1024_characters() -> None:
    assert [prompts.longlora_characters(step) for step in (0, 1, 2, 32)] == [0, 3072, 7168, 119808]


def test_longlora_without_filler_is_refused_as_in_the_reference() -> None:
    with pytest.raises(UserError, match="steps of 1000 tokens"):
        Passkey(style="longlora", lengths=[0]).validate()


def test_longlora_generates_as_many_tokens_as_the_key_has() -> None:
    example = next(examples(Passkey(style="longlora", lengths=[1])))
    assert example.question.max_new_tokens == len(f" {example.references[0]}")


def test_infinitebench_has_59_positions_and_whole_lines() -> None:
    found = list(examples(Passkey(style="infinitebench", lengths=[5220], trials=1)))
    assert len(found) == 59 and {e.question.max_new_tokens for e in found} == {6}
    text = str(found[1].question.prompt)
    assert text.count(prompts.NOISE + "\n") == 5220
    key = found[1].references[0]
    assert text.split(prompts.NOISE + "\n" + "The pass key is")[0].count(prompts.NOISE) == 89
    assert text.endswith("\n\n\nWhat is the pass key?") and len(key) == 5
    assert found[1].question.answer_prefix == "\n\nThe pass key is"


def test_infinitebench_keys_may_begin_with_zeros() -> None:
    found = examples(Passkey(style="infinitebench", lengths=[20], trials=10))
    assert any(e.references[0].startswith("0") for e in found)


def test_infinitebench_official_rows_go_both_ways() -> None:
    task = Passkey(style="infinitebench", lengths=[5], trials=1)
    example = next(examples(task))
    row = task.official_row(example)
    assert set(row) == {"context", "input", "answer", "options"} and row["answer"] == list(example.references)
    again = task.read_row({"id": 4, **row}, 0)
    assert (again.id, again.question.prompt, again.references) == ("4", example.question.prompt, example.references)
    assert again.question.answer_prefix == example.question.answer_prefix


def test_our_own_rows_survive_the_round_trip() -> None:
    task = Passkey(lengths=[512], depths=[50], trials=1)
    example = next(examples(task))
    assert task.read_row(example.to_row() | task.official_row(example), 0) == example


def test_every_style_is_deterministic() -> None:
    for style in ("grid", "landmark", "longlora", "infinitebench"):
        task = Passkey(style=style, lengths=[2 if style == "longlora" else 600], trials=2)
        assert digest(task) == digest(task)


def test_word_and_byte_tokenizers_see_the_same_landmark_text() -> None:
    task = Passkey(style="landmark", lengths=[100], trials=1)
    ours, theirs = next(iter(task.examples(WordTokens()))), next(iter(task.examples(ByteTokens())))
    assert isinstance(ours, Example) and isinstance(theirs, Example) and ours.question.prompt == theirs.question.prompt
