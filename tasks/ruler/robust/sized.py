"""An example as a function of its size, and how it is fitted into its length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.ruler.job import Meter
from tasks.ruler.robust.fit import largest
from tasks.ruler.templates import Built


@dataclass(frozen=True)
class Sized:
    """`build(n)` gives the prompt over n units, `growth(n)` a cheap guess of the tokens the units add, `low`..`high`
    the sizes that make sense. All random draws are made before, so that equal sizes give equal prompts."""

    build: Callable[[int], Built]
    growth: Callable[[int], float]
    low: int = 0
    high: int | None = None

    def fit(self, meter: Meter, limit: int) -> tuple[Built, int, int] | None:
        """(prompt, size, tokens) of the largest size whose final prompt has at most `limit` tokens; None if `low` has
        more."""
        made: dict[int, tuple[Built, int]] = {}

        def tokens_at(n: int) -> int:
            if n not in made:
                built = self.build(n)
                made[n] = (built, meter.prompt(built))
            return made[n][1]

        size = largest(tokens_at, self.growth, limit, self.low, self.high)
        return None if size is None else (made[size][0], size, made[size][1])
