"""A stand-in for an attached method of which only the cache (and what it does before the prefill) matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from methods.dense import Dense


class OwnCache:
    """Dense, with a cache of its own and work before each prefill."""

    method = Dense()

    def __init__(self, make: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> None:
        self.made: list[Any] = []
        self._make, self._before = make, before

    def new_cache(self) -> Any:
        self.made.append(self._make())
        return self.made[-1]

    def begin(self, inputs: Any) -> Any:
        self._before()
        return inputs

    streams = ()

    def counted(self, steps: Any) -> None:
        """Nothing is installed, so nothing is counted."""
