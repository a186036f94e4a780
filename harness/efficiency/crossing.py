"""Efficiency length: the first measured length from which a method beats dense, with the interval that is known of it.

A method beats dense at a length if the whole range (20 to 80 %) of its ratio of times to dense lies below 1, over at
least `ROUNDS` rounds. The efficiency length is the first measured length where it does so and does so at every longer
measured length too. The true crossing lies between the last length where it did not and that one, so both are given; no
curve is fitted and nothing is extrapolated. Lengths where the two could not be compared (one was left out, or there
were too few rounds) decide nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

ROUNDS = 5


@dataclass(frozen=True)
class Crossing:
    """`length`: None if not reached. `above`: the last length where it did not beat dense (None: it always did)."""

    length: int | None
    above: int | None
    tested: tuple[int, ...]  # lengths that decided
    few: tuple[int, ...] = ()  # lengths with too few rounds to decide

    def __str__(self) -> str:
        few = f" (fewer than {ROUNDS} rounds at {', '.join(map(str, self.few))})" if self.few else ""
        return self._found() + few

    def _found(self) -> str:
        if not self.tested:
            return "undecided"
        if self.length is None:
            return f"not reached up to {self.tested[-1]}"
        if self.above is None:
            return f"{self.length} (the shortest measured, so at most that)"
        return f"{self.length}, in ({self.above}, {self.length}]"


def crossing(ratios: Mapping[int, Mapping[str, Any] | None], never: Collection[int] = ()) -> Crossing:
    """From length -> ratio of times to dense (`median`, `q20`, `q80`, `n`), None where there is none. `never`: lengths at
    which it cannot be faster.
    """
    beats = {
        n: r["q80"] < 1 and n not in never for n, r in sorted(ratios.items()) if r is not None and r["n"] >= ROUNDS
    }
    lost = [n for n, won in beats.items() if not won]
    above = max(lost, default=None)
    length = next((n for n in beats if above is None or n > above), None)
    few = (n for n, r in sorted(ratios.items()) if r is not None and r["n"] < ROUNDS)
    return Crossing(length, above, tuple(beats), tuple(few))
