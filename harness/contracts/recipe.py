"""How a network is trained, as a recipe: the network, its data, its schedule and its seed. `harness/training` follows it.

A recipe is a frozen dataclass whose fields are its parameters. What it gives for a step depends on the fields, the step and
the weights alone, never on the clock or on what was asked before: then a training that was killed goes on to the same
weights, bit for bit. Random numbers come from generators that are seeded with `seed` and the step; torch's own generator
(dropout draws from it) is seeded with `seed` at the start and kept in the checkpoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

Numbers = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """What every recipe says. The class facts are how often something happens, in steps, and change no weight."""

    places: ClassVar[tuple[str, ...]] = ()  # fields that only say where files are kept
    log_every: ClassVar[int] = 50
    save_every: ClassVar[int] = 100
    report_every: ClassVar[int] = 0  # 0: never
    clip: ClassVar[float] = 1.0  # largest norm of all gradients together

    seed: int = 0

    @property
    @abstractmethod
    def label(self) -> str:
        """What is trained, for people."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many updates of the weights there are."""

    @abstractmethod
    def network(self) -> nn.Module:
        """The network with its start values, on its device; the same at every call."""

    @abstractmethod
    def loss(self, network: nn.Module, step: int) -> tuple[Tensor, Numbers]:
        """The loss of a step (scalar), counted from 0, and numbers for the log, whose means are written there."""

    @abstractmethod
    def rates(self, step: int) -> tuple[float, ...]:
        """The learning rate of every group of the optimiser."""

    def optimizer(self, network: nn.Module) -> Optimizer:
        """AdamW with betas 0.9 and 0.98; weight decay of 0.01 touches matrices alone, never biases or norms."""
        import torch

        trained = [p for p in network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.dim() >= 2], "weight_decay": 0.01},
            {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))

    def report(self, network: nn.Module, done: int) -> Numbers:
        """Numbers about the network after `done` steps, in evaluation mode and without gradients."""
        return {}

    def after(self) -> Recipe | None:
        """The recipe whose weights replace the start values; None where the training begins anew."""
        return None

    def data(self) -> Mapping[str, Any]:
        """Digests of the files that it reads, as JSON. Code that makes data is in the identity anyway."""
        return {}


def warmed_up(step: int, peak: float, steps: int) -> float:
    """A learning rate that goes linearly from 0 to `peak` over the first `steps`."""
    return peak * min(1.0, (step + 1) / max(1, steps))
