"""The contract of a check: what decides a published statement here and now, by arithmetic or by a run of a micro model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Bench(Protocol):
    """What lends a check its models and requests: each model is loaded once for all checks."""

    def view(self, name: str) -> Any:
        """The micro model `name`, loaded (`contracts.model.Model`)."""
        ...

    def samples(self, name: str, tokens: int) -> Sequence[Any]:
        """One request: a picture and a question for a model with eyes, else `tokens` token ids of no meaning."""
        ...

    def ids(self, name: str, n: int) -> list[int]:
        """`n` token ids of a model, always the same ones."""
        ...

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make()` gave the first time that this key was named."""
        ...


@dataclass(frozen=True)
class Finding:
    """What was measured. `points` (length, value) is for slopes; `significant` None: exact, there is nothing to test."""

    value: Any = None
    low: float | None = None
    high: float | None = None
    significant: bool | None = None
    points: tuple[tuple[float, float], ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Base of what can be decided here and now: a frozen dataclass whose fields are its parameters, named by `_target_`.

    A module that holds checks imports no torch at the top: claims are listed and validated without it.
    """

    def validate(self) -> None:
        """`UserError` for senseless parameters; nothing is computed."""

    def measure(self, bench: Bench) -> Finding:
        """Do it. `bench` lends micro models that are loaded once."""
        raise NotImplementedError
