"""Training as a lesson: `Training` follows a recipe in the lesson's folder; what is learned are the weights and the curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts.lesson import LOG, Learned
from harness.contracts.recipe import Recipe
from harness.identity.run_id import extension_identity, libraries

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Training:
    """The lesson of `recipe`. `start` gives the weights that the recipe before it learned, once they are needed."""

    recipe: Recipe
    start: Callable[[], Mapping[str, Tensor]] | None = None

    @property
    def label(self) -> str:
        return self.recipe.label

    def identity(self) -> Mapping[str, Any]:
        """The recipe with its parameters, seed, source and data, and that of every recipe before it."""
        before = self.recipe.after()
        return {
            "recipe": extension_identity(self.recipe, folders=self.recipe.places),
            "data": dict(self.recipe.data()),
            "after": None if before is None else dict(Training(before).identity()),
            "libraries": libraries(),
        }

    def learn(self, folder: Path, progress: Callable[[str], None]) -> Learned:
        """`tensors`: the network's state by name. `tables`: `curve`, the log without the clock."""
        from harness.training.checkpoint import STATE
        from harness.training.log import curve
        from harness.training.loop import fit

        network = self.recipe.network()
        if self.start is not None and not (folder / STATE).exists():
            network.load_state_dict(dict(self.start()))
        fit(self.recipe, network, folder, progress)
        # Tied weights are one tensor under two names; a file of tensors holds each for itself.
        tensors = {name: value.detach().clone() for name, value in network.state_dict().items()}
        return Learned(tensors, {"curve": curve(folder / LOG)})
