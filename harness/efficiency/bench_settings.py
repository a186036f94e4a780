"""What `heed bench` is asked to measure, checked. No torch is imported here, so that a mistake is answered at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError

LISTS = {"lengths": "[512,1024,2048]", "batches": "[1,4]"}


@dataclass(frozen=True)
class BenchSettings:
    """What to measure. `UserError` for senseless values."""

    kind: str = "model"
    lengths: tuple[int, ...] = (512, 1024, 2048)
    batches: tuple[int, ...] = (1,)
    new_tokens: int = 8
    repeats: int = 10
    budget_s: float = 60.0

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> BenchSettings:
        """From the section `bench:` of a configuration."""
        lengths, batches = (_whole(node[key], f"bench.{key}", example) for key, example in LISTS.items())
        for key in ("new_tokens", "repeats"):
            _whole([node[key]], f"bench.{key}", "8")
        if not node["budget_s"] > 0:
            raise UserError(f"bench.budget_s={node['budget_s']} must be a number of seconds above 0.")
        return cls(node["kind"], lengths, batches, node["new_tokens"], node["repeats"], float(node["budget_s"]))

    @property
    def points(self) -> list[tuple[int, int]]:
        """(length, batch), short ones first."""
        return [(n, b) for b in self.batches for n in self.lengths]


def _whole(values: Any, key: str, example: str) -> tuple[int, ...]:
    """Ascending whole numbers from 1."""
    values = values if isinstance(values, list | tuple) else [values]
    if not values:
        raise UserError(f"{key}=[] names nothing to measure. Give whole numbers from 1, such as {key}={example}.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{key}: {value!r} is no whole number from 1. For example {key}={example}.")
    return tuple(sorted(set(values)))
