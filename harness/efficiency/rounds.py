"""Alternating rounds: every method runs once in each round, so that whatever else the machine does meets all alike.

The order is turned round from round to round, so that what one method leaves behind (a warm cache, a hot processor)
does not always meet the same neighbour. Ratios are made inside a round and only then summed up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from harness.efficiency.subjects import Took
from harness.errors import UserError

WARM_UPS = 2
Run = Callable[[str, bool], Took]


@dataclass
class Series:
    """What one method did at one point. `left`: why it was left out, with the word for it."""

    warm: Took | None = None  # the last warm-up, in which memory and density were read
    rounds: list[Took] = field(default_factory=list)
    left: tuple[str, str] | None = None  # (refused | out of memory | over budget | simulated, reason)


def alternate(
    labels: Sequence[str], run: Run, repeats: int, budget_s: float, tick: Callable[[str], None] = lambda label: None
) -> dict[str, Series]:
    """Warm up each method, then run all of them round by round.

    A method whose first request alone takes more than `budget_s` seconds is left out. Rounds end after `repeats`, or
    when all methods together have taken `budget_s` for each of them; one round is always made.
    """
    series = {label: Series() for label in labels}
    started = time.perf_counter()
    for label in labels:
        _warm_up(series[label], label, run, budget_s)
        tick(label)
    for i in range(repeats):
        there = [label for label in labels if series[label].left is None]
        for label in there if i % 2 == 0 else reversed(there):
            took = _attempt(series[label], label, run, False)
            if took is not None:
                series[label].rounds.append(took)
            tick(label)
        if not there or time.perf_counter() - started >= budget_s * len(there):
            break
    return series


def _warm_up(one: Series, label: str, run: Run, budget_s: float) -> None:
    for _ in range(WARM_UPS):
        start = time.perf_counter()
        one.warm = _attempt(one, label, run, True)
        seconds = time.perf_counter() - start
        if one.warm is None:
            return
        if one.warm.usage.get("simulated"):
            one.left = ("simulated", "sparsity is a mask inside a dense kernel, so no speed is claimed")
            return
        if seconds > budget_s:
            one.left = ("over budget", f"one request took {seconds:.3g} s, and bench.budget_s is {budget_s:g}")
            return
        if seconds > budget_s / 4:
            return  # a second one would eat the time of the rounds


def _attempt(one: Series, label: str, run: Run, watch: bool) -> Took | None:
    """One request; a refusal or a lack of memory leaves the method out and lets the others go on."""
    try:
        return run(label, watch)
    except UserError as error:
        one.left, one.rounds = ("refused", str(error)), []
    except (MemoryError, torch.OutOfMemoryError) as error:
        one.left, one.rounds = ("out of memory", _first_line(error)), []
    except RuntimeError as error:  # torch's allocator on a CPU has no class of its own
        if "allocate memory" not in str(error):
            raise
        one.left, one.rounds = ("out of memory", _first_line(error)), []
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def ratio(mine: Sequence[float], dense: Sequence[float]) -> dict[str, Any] | None:
    """Median and 20 to 80 % quantiles of mine / dense, round by round; None if there are no common rounds."""
    pairs = list(zip(mine, dense, strict=False))
    if not pairs:
        return None
    q20, median, q80 = np.quantile([a / b for a, b in pairs], (0.2, 0.5, 0.8)).tolist()
    return {"median": median, "q20": q20, "q80": q80, "n": len(pairs)}
