"""Dialogue recall: the wording, the length, where facts stand, and what counts as right."""

from __future__ import annotations

import pytest

from harness.contracts.example import Example, Skipped
from harness.contracts.tokens import Tokens
from harness.errors import UserError
from tasks.recall import Recall
from tests.toy import ByteTokens, WordTokens
from zoo.material.text import words


def built(task: Recall, tokens: Tokens) -> list[Example]:
    return [e for e in task.examples(tokens) if isinstance(e, Example)]


@pytest.mark.parametrize("style", ["plain", "messages"])
@pytest.mark.parametrize("tokens", [ByteTokens(), WordTokens()], ids=lambda t: t.name)
def test_prompt_and_answer_fill_the_length_to_one_exchange(tokens: Tokens, style: str) -> None:
    longest = max(tokens.count("\n" + exchange) for exchange in words.smalltalk()) + 8
    for example in built(Recall(facts=[2, 6], lengths=[512, 1024], samples=5, style=style), tokens):
        used = (
            len(tokens.prompt_ids(example.question.prompt, example.question.answer_prefix))
            + example.question.max_new_tokens
        )
        assert used <= example.meta["length"] <= used + longest
        assert example.meta["n_tokens"] == used - 8


def test_the_dialogue_speaks_the_agreed_sentences() -> None:
    example = built(Recall(facts=[2], lengths=[256], samples=1), WordTokens())[0]
    text, noun, value = (
        f"{example.question.prompt}{example.question.answer_prefix}",
        example.meta["noun"],
        example.references[0],
    )
    lines = text.split("\n")
    at = lines.index(f"User: My favorite {noun} is {value}.")
    assert lines[at + 1] == "Assistant: OK. Thank you, I will remember that."
    assert lines[-2:] == [f"User: What is my favorite {noun}?", f"Assistant: Your favorite {noun} is"]
    assert text.count("My favorite") == 2 and text.count(f" {value}.") == 1
    assert all(line.startswith(("User: ", "Assistant: ")[i % 2]) for i, line in enumerate(lines))


def test_messages_say_the_same_and_end_with_the_question() -> None:
    plain = built(Recall(facts=[2], lengths=[256], samples=1), WordTokens())[0]
    chat = built(Recall(facts=[2], lengths=[256], samples=1, style="messages"), WordTokens())[0]
    assert not isinstance(chat.question.prompt, str) and chat.references == plain.references
    assert [m["role"] for m in chat.question.prompt] == ["user", "assistant"] * (len(chat.question.prompt) // 2) + [
        "user"
    ]
    assert chat.question.prompt[-1]["content"] == f"What is my favorite {chat.meta['noun']}?"
    assert chat.question.answer_prefix == plain.question.answer_prefix == f" Your favorite {chat.meta['noun']} is"


def test_more_samples_facts_and_lengths_change_no_other_example() -> None:
    few = {e.id: e for e in built(Recall(facts=[2], lengths=[256], samples=3), WordTokens())}
    many = {e.id: e for e in built(Recall(facts=[2, 6], lengths=[128, 256], samples=5), WordTokens())}
    assert few.items() <= many.items() and len(few) == 3


def test_nouns_and_values_differ_within_a_dialogue_and_the_facts_are_spread() -> None:
    found = built(Recall(facts=[6], lengths=[512], samples=20), WordTokens())
    for example in found:
        assert len({example.references[0], *example.meta["others"]}) == 6
    assert len({e.meta["position"] for e in found}) > 10 and len({e.meta["asked"] for e in found}) > 3


def test_facts_that_do_not_fit_are_skipped_with_the_reason() -> None:
    found = list(Recall(facts=[6], lengths=[64], samples=1).examples(WordTokens()))
    assert isinstance(found[0], Skipped) and "more than the length 64" in found[0].reason


RED = Example(id="1", references=("red",), meta={"others": ["blue"]})


@pytest.mark.parametrize(
    ("text", "right", "flag"),
    [
        (" red.", 1, None), ("Red", 1, None), ("**RED**, I say", 1, None), ("red-ish", 1, None), ("redder", 0, None),
        ("is red", 0, None), (" blue.", 0, "other_fact"), ("", 0, "empty"), (None, 0, "empty"), (" \n", 0, "empty"),
        ("...", 0, "no_word"), ("\0", 0, "no_word"), ("1 red", 0, None),
    ],
)  # fmt: skip
def test_the_first_word_decides(text: str | None, right: int, flag: str | None) -> None:
    score = Recall().score(RED, text)
    assert score.metrics == {"accuracy": float(right)} and score.flags == ((flag,) if flag else ())


def test_an_example_without_reference_never_scores() -> None:
    assert Recall().score(Example(id="1"), "").metrics == {"accuracy": 0.0}
    assert Recall().score(Example(id="1"), "red").metrics == {"accuracy": 0.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"style": "message"}, "did you mean 'messages'"),
        ({"facts": []}, "from 1 to"),
        ({"facts": [2.5]}, "whole numbers"),
        ({"facts": [0]}, "from 1 to"),
        ({"facts": [2, 2]}, "only once"),
        ({"lengths": [16]}, "at least 32"),
        ({"samples": 0}, "at least 1"),
        ({"max_new_tokens": 0}, "at least 1"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recall(**wrong).validate()  # type: ignore[arg-type]


def test_the_small_talk_is_two_lines_each_and_keeps_to_its_subject() -> None:
    assert len(words.smalltalk()) == len(set(words.smalltalk())) == 40
    for exchange in words.smalltalk():
        user, assistant = exchange.split("\n")
        assert user.startswith("User: ") and assistant.startswith("Assistant: ") and "avorite" not in exchange
