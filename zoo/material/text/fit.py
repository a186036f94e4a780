"""Fill a text to a length: the most units (sentences, exchanges, words) whose text still fits a token budget."""

from __future__ import annotations

from collections.abc import Callable

from harness.errors import UserError

PER_TOKEN = 8  # units (words at least) in one token, over a whole text: more than any tokenizer packs


def check_growth(fits: int, limit: int) -> None:
    """`UserError` where so many units fit into `limit` tokens that the length cannot depend on them: a chat template shows
    a part of the message only, and nothing would ever fill the prompt.
    """
    if fits > PER_TOKEN * (limit + 1):
        raise UserError(
            f"A prompt of {limit} tokens cannot be filled: with {fits} pieces of text in it, it is still no longer. Does the "
            "model's chat template leave a part of the message out? Set the model's template=none, or repair the template in "
            "the tokenizer's files."
        )


def largest_fit(cost: Callable[[int], int], limit: int, guess: int = 1, most: int | None = None) -> int | None:
    """The largest `n <= most` with `cost(n) <= limit`, or None where not even `cost(0)` fits.

    `cost(n)`, the length of the text with `n` units, must not fall when `n` grows; the answer then does not depend on
    `guess`. The search gallops away from the guess in doubling steps and bisects the last gap: three or four calls for
    a guess that is off by one or two. `UserError` where the length does not grow with the text (`check_growth`).
    """
    fits, fails, step = -1, None, 1
    n = max(0, guess if most is None else min(guess, most))
    while fits != most and (fails is None or fails - fits > 1):
        if cost(n) <= limit:
            fits = n
            if most is None:
                check_growth(fits, limit)
        else:
            fails = n
        if fails is None:
            n = fits + step if most is None else min(fits + step, most)
        else:
            n = max(0, fails - step) if fits < 0 else (fits + fails) // 2
        step *= 2
    return None if fits < 0 else fits
