"""The words of this package as data: what is claimed, what was found, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.contracts.check import Check

Kind = Literal["exact", "bound", "direction", "band", "slope"]
Status = Literal["reproduced", "not reproduced", "not tested"]
KINDS: dict[str, str] = {
    "exact": "equal to a value (or list, or mapping), after rounding to `digits` if given",
    "bound": "every number at least `at_least` and at most `at_most`",
    "direction": "up or down: a significant paired difference, or a strictly ordered list of exact numbers",
    "band": "within `tolerance` of the published number, or the interval reaches that far",
    "slope": "exponent of a power law through (length, value) points: near a number, bounded, or up or down",
}
STATUSES: tuple[Status, ...] = ("reproduced", "not reproduced", "not tested")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published statement about a method. Exactly one of `check`, `cells` and `needs` says how it is decided."""

    method: str  # an option of the group `method`
    id: str
    kind: Kind
    statement: str
    source: str  # paper with table or equation, or "arithmetic" on what
    expected: Any = None
    tolerance: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    digits: int | None = None
    check: Check | None = None  # decided here
    cells: Mapping[str, Any] = field(default_factory=dict)  # decided by stored results that match
    needs: str = ""  # what it would take; nothing decides it yet
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.method}.{self.id}"


@dataclass(frozen=True)
class Verdict:
    """A claim, judged. `expected` and `measured` are texts for people; `reason`: why, and for `not tested` the remedy."""

    claim: Claim
    status: Status
    expected: str
    measured: str
    reason: str = ""
