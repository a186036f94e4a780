"""Dense attention: the model as it is. Everybody's baseline; it installs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.contracts.method import Method

if TYPE_CHECKING:
    from harness.contracts.model import Model


@dataclass(frozen=True, kw_only=True)
class Dense(Method):
    """A_ij = softmax_j(scaling * q_i k_j) over all keys the model shows. No hooks, so attaching it leaves the model
    alone.
    """

    name = "dense"
    title = "Dense attention, the baseline"
    paper = "1706.03762"
    phases = frozenset()
    budget_unit = "none"
    prefill_is_dense = True
    prefix_safe = True

    def layers(self, view: Model) -> list[int]:
        """It acts nowhere."""
        return []
