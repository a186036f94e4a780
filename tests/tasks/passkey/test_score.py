"""The worked examples of the three policies, and outputs that break scorers."""

from __future__ import annotations

import pytest

from harness.contracts.example import Example
from tasks.passkey import Passkey
from tasks.passkey.policies import POLICIES

KEY = Example(id="1", references=("12345",))
CASES = [
    ("12345", 1, 1, 1),
    (" 12345.", 1, 1, 1),
    ("The pass key is 12345", 1, 1, 1),
    ("is 54321 not 12345", 0, 0, 1),
    ("012345", 1, 0, 1),
    ("12,345", 0, 0, 0),
    ("1 2345", 0, 0, 0),
    ("123456", 0, 0, 1),
    ("", 0, 0, 0),
    ("none", 0, 0, 0),
    ("12345 12345", 1, 1, 1),
    ("１２３４５", 1, 0, 0),
]


@pytest.mark.parametrize("case", CASES, ids=[c[0] or "(empty)" for c in CASES])
def test_policies_read_the_worked_examples_as_specified(case: tuple[str, int, int, int]) -> None:
    text, *expected = case
    for policy, right in zip(("first_int", "first_digits", "contains"), expected, strict=True):
        assert Passkey(policy=policy).score(KEY, text).metrics == {"accuracy": float(right)}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("text", [None, "", " \n", "\0", "٣", "²", "9" * 10_000, "🔑 12345🔑", "{}", "-12345"])
def test_garbage_never_raises(text: str | None, policy: str) -> None:
    task = Passkey(policy=policy)
    for example in (KEY, Example(id="2"), Example(id="3", references=("no number",))):
        assert task.score(example, text).metrics["accuracy"] in (0.0, 1.0)


def test_flags_name_what_is_missing() -> None:
    task = Passkey()
    assert task.score(KEY, None).flags == ("empty",) == task.score(KEY, "  ").flags
    assert task.score(KEY, "none").flags == ("no_number",)
    assert task.score(KEY, "12345").flags == ()


def test_each_style_has_its_own_policy() -> None:
    found = {style: Passkey(style=style).scorer for style in ("landmark", "longlora", "infinitebench", "grid")}
    assert found == {
        "landmark": "passkey/first_int",
        "longlora": "passkey/contains",
        "infinitebench": "passkey/first_digits",
        "grid": "passkey/first_digits",
    }
