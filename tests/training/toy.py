"""A small recipe whose every part can go wrong when a training goes on: dropout, a report, a log that does not end with a
checkpoint, and a checkpoint that takes a while to write.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.contracts.recipe import Recipe, warmed_up


@dataclass(frozen=True, kw_only=True)
class Toy(Recipe):
    """Sums of inputs, through dropout. `diary`: a file with the process of everyone who built the network."""

    places = ("diary",)
    log_every, save_every, report_every = 5, 2, 8

    length: int = 24
    rate: float = 0.01
    ballast: int = 0  # weights that are only carried along
    first: Toy | None = None
    diary: Path | None = None

    @property
    def label(self) -> str:
        return f"toy, seed {self.seed}"

    @property
    def steps(self) -> int:
        return self.length

    def network(self) -> nn.Module:
        if self.diary is not None:
            with self.diary.open("a") as file:
                file.write(f"{os.getpid()}\n")
        torch.manual_seed(self.seed)
        net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.3), nn.Linear(16, 1))
        net.register_parameter("ballast", nn.Parameter(torch.zeros(self.ballast)))
        return net

    def rates(self, step: int) -> tuple[float, ...]:
        return (warmed_up(step, self.rate, 3),) * 2

    def loss(self, network: nn.Module, step: int) -> tuple[Tensor, Mapping[str, float]]:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        loss = (network(x) - x.sum(1, keepdim=True)).pow(2).mean()
        return loss + network.ballast.sum(), {"seen": float(step)}  # type: ignore[operator]

    def report(self, network: nn.Module, done: int) -> Mapping[str, float]:
        return {"held_out": float(network(torch.ones(1, 4)))}

    def after(self) -> Recipe | None:
        return self.first
