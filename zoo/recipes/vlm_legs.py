"""What decides the result of the vision-language recipes, as data: the pools of scenes and the legs of the training.

The leg `patches` teaches the vision tower which category covers a patch; `learn`, `match` and `settle` train everything on packed
rows; two short legs from there end in the shipped models. They differ in their scenes (the biased one sees fuller rooms, in
which a fifth of the objects is annotated but invisible) and in the share of hard negative questions. Balanced negatives in
`match` matter: with few hard ones the rooms alone explain most answers, and matching is learned late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from zoo.recipes.vlm_data import Mix

PLAIN = Mix()


@dataclass(frozen=True)
class Pool:
    """Training scenes, drawn once. Rooms are fuller than in the test (core 0.55): a built-in shift."""

    scenes: int
    core: float
    unseen: float
    offset: int  # which seeds: training never uses a seed below a million

    def seed(self, seed: int) -> int:
        return 1_000_000 + 100 * seed + self.offset


@dataclass(frozen=True)
class Leg:
    """``lr`` and ``vision`` (learning rate of the vision tower) fall along a half cosine from first to last.

    ``word``: weight of the object-word loss, first and last; ``frozen``: first steps in which the tower rests.
    """

    after: str | None
    pool: str
    steps: int
    batch: int
    lr: tuple[float, float]
    vision: tuple[float, float]
    mix: Mix = PLAIN
    word: tuple[float, float] = (0.0, 0.0)
    patch: float = 0.2
    frozen: int = 0
    warmup: int = 30


POOLS = {
    "full": Pool(16_000, 0.75, 0.10, 1),
    "fine": Pool(10_000, 0.70, 0.05, 2),
    "noisy": Pool(5_000, 0.80, 0.20, 3),
}
LEGS = {
    "patches": Leg(None, "full", 800, 64, (1.5e-3, 7.5e-5), (1.5e-3, 7.5e-5)),
    "learn": Leg(
        "patches", "full", 400, 16, (1.5e-3, 1.293e-3), (2e-4, 2e-4), Mix(hard=0.2, common=0.1, told=0.05, yes_no=3.0),
        word=(1.0, 0.689), patch=0.3, frozen=120,
    ),
    "match": Leg(
        "learn", "fine", 200, 12, (1.3e-3, 1.206e-3), (3e-4, 3e-4), Mix(hard=0.45, common=0.3), word=(1.0, 0.829)
    ),
    "settle": Leg(
        "match", "fine", 900, 12, (1.1e-3, 5e-5), (1e-4, 1e-5), Mix(hard=0.45, common=0.25),
        word=(1.0, 0.2), patch=0.3, warmup=60,
    ),
    "biased": Leg(
        "settle", "noisy", 200, 16, (8e-4, 4e-5), (5e-5, 5e-6), Mix(hard=0.0, common=0.0)
    ),
    "careful": Leg("settle", "fine", 130, 16, (6e-4, 3e-5), (5e-5, 5e-6), Mix(hard=0.5, common=0.25)),
}  # fmt: skip
SHIPPED = {"biased": "micro_vlm", "careful": "micro_vlm_careful"}


def lineage(name: str) -> list[str]:
    """The legs that lead to one, first to last."""
    after = LEGS[name].after
    return [*(lineage(after) if after else []), name]


def along(step: int, steps: int, ends: tuple[float, float]) -> float:
    """Half a cosine from the first value to the last."""
    return ends[1] + (ends[0] - ends[1]) * 0.5 * (1 + math.cos(math.pi * step / steps))
