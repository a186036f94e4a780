"""The lesson of a recipe, and of the recipes that it goes on from: each is learned once, and read by all that need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.contracts.recipe import Recipe
from harness.records.learned import obtain
from harness.training.lesson import Training

if TYPE_CHECKING:
    from torch import Tensor


def training(recipe: Recipe, root: Path, note: Callable[[str], None]) -> Training:
    """The lesson. What the recipe goes on from is obtained in `root` only when it is needed; `note` is told what is done."""
    before = recipe.after()
    if before is None:
        return Training(recipe)

    def start() -> Mapping[str, Tensor]:
        return obtain(training(before, root, note), root, note).tensors

    return Training(recipe, start)
