"""The search for the most units that fit: right for every guess, and cheap for a good one."""

from __future__ import annotations

import pytest

from zoo.material.text.fit import largest_fit


@pytest.mark.parametrize("most", [None, 0, 3, 17, 40])
@pytest.mark.parametrize("guess", [-5, 0, 1, 16, 17, 18, 1000])
@pytest.mark.parametrize("limit", [9, 10, 11, 12, 60, 61])
def test_the_answer_does_not_depend_on_the_guess(limit: int, guess: int, most: int | None) -> None:
    expected = None if limit < 10 else min((limit - 10) // 3, 10**6 if most is None else most)
    assert largest_fit(lambda n: 10 + 3 * n, limit, guess, most) == expected


def test_a_good_guess_needs_few_calls() -> None:
    calls: list[int] = []
    assert largest_fit(lambda n: calls.append(n) or 5 * n, 5004, guess=999) == 1000  # type: ignore[func-returns-value]
    assert len(calls) <= 4
