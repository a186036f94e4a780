"""The training scenes of the vision-language recipes, drawn once and kept on disk, and the batches that a leg takes from them."""

from __future__ import annotations

import functools
import hashlib
import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.disk.whole import whole_file
from zoo.material.scenes import draw
from zoo.material.scenes.sample import CATEGORIES, SIZE, Scene, scene
from zoo.recipes import vlm_data
from zoo.recipes.vlm_legs import LEGS, POOLS, Leg, Pool
from zoo.recipes.vlm_tokenizer import MEAN, PATCH, PATCHES, STD


def patch_labels(labels: np.ndarray) -> np.ndarray:
    """``[112, 112]`` categories by pixel to ``[64]`` by patch: the most frequent one if it covers 18 %, else 0."""
    side = SIZE // PATCH
    cells = labels.reshape(side, PATCH, side, PATCH).swapaxes(1, 2).reshape(PATCHES, -1)
    counts = np.stack([np.bincount(cell, minlength=len(CATEGORIES) + 1) for cell in cells])[:, 1:]
    return np.where(counts.max(1) >= 0.18 * PATCH * PATCH, counts.argmax(1) + 1, 0).astype(np.uint8)


def draw_pool(pool: Pool, seed: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[N, 112, 112, 3]`` and patch labels ``[N, 64]``, both uint8, drawn once and kept on disk."""
    name = f"pool_{pool.seed(seed)}_{pool.scenes}_{pool.core}_{pool.unseen}_v{draw.VERSION}"
    image_path, label_path = folder / f"{name}.npy", folder / f"{name}_labels.npy"
    if not label_path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}.{os.getpid()}.part"  # whole under its own name, or not there, whoever else draws it
        images = np.lib.format.open_memmap(part, "w+", np.uint8, (pool.scenes, SIZE, SIZE, 3))
        labels = np.zeros((pool.scenes, PATCHES), np.uint8)
        for i in range(pool.scenes):
            image, by_pixel = draw.render(scene(pool.seed(seed), i, pool.core, pool.unseen))
            images[i], labels[i] = np.asarray(image), patch_labels(by_pixel)
        images.flush()
        part.replace(image_path)
        with whole_file(label_path) as file:
            np.save(file, labels)
    return np.load(image_path, mmap_mode="r"), np.load(label_path)


def pixel_values(images: np.ndarray) -> Tensor:
    """What the image processor makes of images of the right size: ``[B, 3, 112, 112]``."""
    return (torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


@dataclass(frozen=True)
class Batches:
    """The steps of a leg on its pool. Every step depends on the seed, the leg and its number only."""

    name: str
    seed: int
    leg: Leg
    pool: Pool
    folder: Path

    @functools.cached_property
    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """All images and patch labels of the pool."""
        return draw_pool(self.pool, self.seed, self.folder)

    def rng(self, step: int) -> random.Random:
        return random.Random(f"{self.seed}/{self.name}/{step}")

    def scene(self, index: int) -> Scene:
        return scene(self.pool.seed(self.seed), index, self.pool.core, self.pool.unseen)

    def patches(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Half of the batches mirrored; the labels with them."""
        rng = self.rng(step)
        chosen = sorted(rng.sample(range(self.pool.scenes), self.leg.batch))
        images, labels = (values[chosen] for values in self.drawn)
        if rng.random() < 0.5:
            side = SIZE // PATCH
            images, labels = images[:, :, ::-1], labels.reshape(-1, side, side)[:, :, ::-1].reshape(-1, PATCHES)
        return images, labels

    def rows(self, step: int) -> tuple[list[int], list[list[vlm_data.Branch]]]:
        """The images of a step and what is said about them; text-only branches talk about scenes beyond the pool."""
        rng = self.rng(step)
        chosen = rng.sample(range(self.pool.scenes), self.leg.batch)
        others = [self.scene(rng.randrange(10**6, 2 * 10**6)) for _ in chosen]
        return chosen, [
            vlm_data.row(rng, self.scene(i), other, self.leg.mix) for i, other in zip(chosen, others, strict=True)
        ]

    def packed(self, step: int) -> tuple[vlm_data.Batch, np.ndarray, np.ndarray]:
        chosen, rows = self.rows(step)
        images, labels = self.drawn
        return vlm_data.pack(rows), images[chosen], labels[chosen]


def data_digest(seed: int, steps: tuple[int, ...] = (0, 100)) -> str:
    """First 16 hex digits of the sha256 over packed rows of some steps: tells whether the text is still the same."""
    data = [Batches(name, seed, leg, POOLS[leg.pool], Path()) for name, leg in LEGS.items() if leg.after]
    rows = [[[(b.ids, b.weights) for b in row] for row in d.rows(step)[1]] for d in data for step in steps]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
