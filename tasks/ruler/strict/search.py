"""The size search of the reference, with its increments, retries and draws, except that it always ends.

Source: `generate_samples` in NVIDIA/RULER
`scripts/data/synthetic/{niah,variable_tracking,common_words_extraction,qa}.py`. Every call of a builder consumes
random draws, so the order and the number of calls are part of the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from tasks.ruler.job import Job
from tasks.ruler.templates import Built

TRIES = 50  # attempts before we may say what the reference never says: it does not fit
MOST = 5000  # attempts at the smallest size; the reference has no such limit
FAILURES = (ValueError, IndexError)  # what too small a haystack raises, in the reference as here


def search(tokens_at: Callable[[int], int], step: int, upper: int, limit: int) -> int:
    """The largest size between `step` and `upper` found to hold at most `limit` tokens by bisection; `step` if none
    was."""
    low, best = step, step
    while low <= upper:
        middle = (low + upper) // 2
        if tokens_at(middle) <= limit:
            best, low = middle, middle + 1
        else:
            upper = middle - 1
    return best


def settle(
    build: Callable[[int], Built], tokens: Callable[[Built], int], size: int, step: int, limit: int
) -> Built | None:
    """Build at `size`; while it is too long or impossible, take `step` off as long as more than `step` is left.

    At the smallest size only other draws can help. None: they never will, or did not in `MOST` tries.
    """
    tries = 0
    seen: list[int] = []  # lengths at the smallest size
    while tries < TRIES or not _hopeless(seen, limit):
        smallest = size <= step
        try:
            built = build(size)
            length = tokens(built)
            if length <= limit:
                return built
            seen += [length] * smallest
        except FAILURES:
            pass
        if smallest:
            tries += 1
        else:
            size -= step
    return None


def _hopeless(seen: list[int], limit: int) -> bool:
    """Whether lengths of the same size lie so far above the limit that their spread will not reach it."""
    return not seen or len(seen) >= MOST or min(seen) - limit > max(seen) - min(seen)


def generate(
    job: Job, probe: Callable[[int], int], build: Callable[[int, int], Built], step: int, upper: Callable[[], int]
) -> Iterator[Built | str]:
    """The samples of a job; a string in place of a sample says why there is none.

    `upper()` makes the first estimate and returns the upper end of the search, `probe(size)` gives the tokens of a
    trial prompt, `build(index, size)` a sample.
    """
    try:
        size = search(probe, step, upper(), job.limit)
    except FAILURES as error:
        yield from [f"the reference stops with an error while it searches a size ({error})"] * job.samples
        return
    for index in range(job.samples):
        built = settle(partial(build, index), lambda made: job.meter.text(made.text), size, step, job.limit)
        if built is None:
            reason = f"the smallest prompt does not fit into {job.limit} tokens; the reference would try for ever"
            yield from [reason] * (job.samples - index)
            return
        yield built


def upper_bound(tokens: int, step: int, length: int) -> int:
    """Three times the size that the first estimate (`tokens` for `step` units) predicts, and at least two steps."""
    return max(int((length / (tokens / step)) * 3), step * 2)
