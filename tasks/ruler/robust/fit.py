"""Find the largest haystack that fits, with few counts of whole prompts."""

from __future__ import annotations

from collections.abc import Callable

from zoo.material.text.fit import check_growth

PATIENCE = 8  # guided guesses before plain bisection takes over
FAR = 10**7  # no guess goes beyond this size


def largest(
    tokens_at: Callable[[int], int], growth: Callable[[int], float], limit: int, low: int = 0, high: int | None = None
) -> int | None:
    """The size n >= `low` with tokens_at(n) <= limit < tokens_at(n + 1) (or n == `high`); None if not even `low` fits.

    `growth(n)` is a cheap, non-decreasing guess of the tokens that `n` units add to the prompt. It only decides where
    to look first; every decision is made on `tokens_at`, which counts the final prompt.
    """
    base, start = tokens_at(low), growth(low)
    if base > limit:
        return None
    fits, over, ratio, tries = low, None if high is None else high + 1, 1.0, 0
    while over is None or over - fits > 1:
        tries += 1
        if tries > PATIENCE and over is not None:
            n = (fits + over) // 2
        else:
            allowed = start + (limit - base) / ratio
            n = _between(_invert(growth, allowed, fits, over), fits, over, 2 ** max(0, tries - 3))
        tokens = tokens_at(n)
        if tokens <= limit:
            fits = n
            if over is None:
                check_growth(fits, limit)
        else:
            over = n
        if growth(n) > start and tokens > base:
            ratio = (tokens - base) / (growth(n) - start)
    return fits


def _between(n: int, fits: int, over: int | None, stride: int) -> int:
    """`n` moved strictly between the bounds; near a bound by `stride`, so that a poor guess cannot creep."""
    n = max(n, fits + stride)
    return n if over is None else max(fits + 1, min(n, over - 1))


def _invert(growth: Callable[[int], float], allowed: float, fits: int, over: int | None) -> int:
    """The largest n in [fits, over) with growth(n) <= allowed, or `fits`."""
    low, high = fits, fits + 1
    while growth(high) <= allowed and high < (FAR if over is None else over):
        low, high = high, high + 2 * (high - fits)
    if over is not None:
        high = min(high, over)
    while high - low > 1:
        middle = (low + high) // 2
        if growth(middle) <= allowed:
            low = middle
        else:
            high = middle
    return low
