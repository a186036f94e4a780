"""What the checks share: a method given as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.contracts.check import Check

if TYPE_CHECKING:
    from harness.contracts.method import Method


@dataclass(frozen=True, kw_only=True)
class OfMethod(Check):
    """A check on one method. In a claim file `_target_` may be left out: it is the file's own method."""

    method: Mapping[str, Any] = field(default_factory=dict)

    def validate(self) -> None:
        built(self.method)


def built(node: Mapping[str, Any]) -> Method:
    """The method, its parameters checked; what the node leaves out has the published default of its class."""
    from harness.config.build import build

    method: Method = build(node, "method")
    return method
