"""Wander: the nearest keys, and every so many of those before them (own example, no paper)."""

from dataclasses import dataclass

from harness.contracts.call import Blocks
from harness.contracts.method import Method
from heed_wander.steps import is_read


@dataclass(frozen=True, kw_only=True)
class Wander(Method):
    """i - j < recent or j % step == 0, in prefill and decode."""

    name = "wander"
    title = "The nearest keys and every so many before them"
    paper = "own"
    budget_unit = "tokens read by one query"
    prefix_safe = True  # depends on positions alone, so a prompt may come in pieces
    options = {"recent": "nearest tokens that are read", "step": "distance between the others"}

    recent: int = 32
    step: int = 4

    def validate(self):
        self.require(self.recent >= 1, "recent", "a query reads at least itself")
        self.require(self.step >= 1, "step", "keys are at least one apart")

    def idle(self, n):
        full = n <= self.recent + 1 or self.step == 1
        return f"it reads all of {n} tokens; {self.lower(recent=True)}" if full else ""

    def pattern(self, ctx, q, k):
        return Blocks(16, lambda h, a, c: a >= c, token=lambda i, j: is_read(i, j, self.recent, self.step))
