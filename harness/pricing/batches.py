"""Which requests are computed together: the rules of `harness/asking/batches.py`, for counts in place of examples.

The plan of ten thousand examples is a handful of batches, each so many times.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.pricing.requests import Group


@dataclass(frozen=True)
class Batch:
    """`times` batches of `size` requests, padded to `prompt` tokens; `new`: tokens until the last answer ends, at most
    `limit`. `padded`: prompts may be of different lengths.
    """

    size: int
    prompt: int
    new: int
    limit: int
    times: int = 1
    padded: bool = False


def plan(groups: Iterable[Group], budget: int, mode: str = "any") -> list[Batch]:
    """Batches of at most `budget` padded tokens (prompt + longest answer), longest prompts first; `equal`: of one prompt
    length; `one`: single requests.
    """
    done: list[Batch] = []
    part: Batch | None = None  # not full yet
    for g in sorted(groups, key=lambda g: (-g.prompt, -g.limit)):
        left = g.count
        if mode == "one":
            done.append(Batch(1, g.prompt, g.new, g.limit, left))
            continue
        if part is not None and (mode == "any" or g.prompt == part.prompt):
            limit = max(part.limit, g.limit)
            take = max(0, min(left, budget // (part.prompt + limit) - part.size))
            if take:
                part = Batch(part.size + take, part.prompt, max(part.new, g.new), limit)
                left -= take
        if not left:
            continue
        if part is not None:
            done.append(part)
        full = max(1, budget // (g.prompt + g.limit))
        times, rest = divmod(left, full)
        if not rest:  # the last full batch may still take requests of the next group, if they are shorter
            times, rest = times - 1, full
        if times:
            done.append(Batch(full, g.prompt, g.new, g.limit, times))
        part = Batch(rest, g.prompt, g.new, g.limit)
    done += [part] if part is not None else []
    return [replace(b, padded=mode == "any" and b.size > 1) for b in done]
