"""The recipes of `micro-vlm` and `micro-vlm-careful`, one for each leg: a leg goes on from what the leg before it learned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.contracts.recipe import Recipe, warmed_up
from zoo.recipes.vlm_legs import LEGS, POOLS, Leg, Pool, along
from zoo.recipes.vlm_network import Trainee, packed_loss, patch_loss
from zoo.recipes.vlm_pools import Batches


@dataclass(frozen=True, kw_only=True)
class MicroVLM(Recipe):
    """The leg `name`; `pools` keeps the drawn scenes."""

    places = ("pools",)
    log_every = 25

    name: str
    leg: Leg
    pool: Pool
    pools: Path

    @property
    def label(self) -> str:
        return f"micro-vlm, leg {self.name}, seed {self.seed}"

    @property
    def steps(self) -> int:
        return self.leg.steps

    @cached_property
    def batches(self) -> Batches:
        return Batches(self.name, self.seed, self.leg, self.pool, self.pools)

    def after(self) -> Recipe | None:
        return None if self.leg.after is None else recipe(self.leg.after, self.seed, self.pools)

    def network(self) -> Trainee:
        return Trainee(self.seed)

    def optimizer(self, network: nn.Module) -> torch.optim.AdamW:
        """Two groups: the vision tower and the rest. Biases and norms decay as well; they are few."""
        assert isinstance(network, Trainee)
        tower = list(network.model.model.vision_tower.parameters())
        known = {id(p) for p in tower}
        rest = [p for p in network.parameters() if id(p) not in known]
        return torch.optim.AdamW([{"params": tower}, {"params": rest}], lr=0.0, betas=(0.9, 0.98), weight_decay=0.02)

    def rates(self, step: int) -> tuple[float, ...]:
        """The vision tower's, which rests at first, and that of the rest."""
        leg = self.leg
        tower = warmed_up(step - leg.frozen, along(step, leg.steps, leg.vision), leg.warmup)
        return max(0.0, tower), warmed_up(step, along(step, leg.steps, leg.lr), leg.warmup)

    def loss(self, network: nn.Module, step: int) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(network, Trainee)
        if self.leg.after is None:
            return patch_loss(network, *self.batches.patches(step))
        word = self.leg.word[0] + (self.leg.word[1] - self.leg.word[0]) * step / self.leg.steps
        return packed_loss(network, *self.batches.packed(step), word=word, patch=self.leg.patch)


def recipe(name: str, seed: int, pools: Path) -> MicroVLM:
    """The recipe of a leg."""
    leg = LEGS[name]
    return MicroVLM(seed=seed, name=name, leg=leg, pool=POOLS[leg.pool], pools=pools)
