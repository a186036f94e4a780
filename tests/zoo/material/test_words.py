"""The built-in word lists keep the promises that tasks rely on."""

import re

import pytest

from zoo.material.text import words


@pytest.mark.parametrize(("read", "least"), [(words.nouns, 450), (words.adjectives, 220), (words.verbs, 120)])
def test_lists_are_sorted_unique_single_words(read, least: int) -> None:  # type: ignore[no-untyped-def]
    found = read()
    assert len(found) >= least
    assert found == tuple(sorted(set(found)))
    assert all(re.fullmatch(r"[a-z]+", word) for word in found)


def test_the_essays_hold_nothing_that_a_task_hides() -> None:
    text = words.essay()
    assert 2500 <= len(text.split()) <= 3500
    assert not re.search(r"\d|magic|pass key|VAR", text)


def test_the_digest_tells_texts_and_boundaries_apart() -> None:
    assert words.digest() == words.digest()
    assert words.digest(("a", "b"), ("c",)) != words.digest(("a",), ("b", "c"))
    assert len(words.digest("x")) == 16
