"""What a launcher calls for each job: `heed run` with the job's overrides, here or on a node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


@dataclass(frozen=True)
class JobCall:
    """Hydra's task function. It travels by reference: nodes import it, and `run`, which takes overrides and the name of the
    sweep and returns an exit code. `variants`: overrides that Hydra would misread; `group`: the sweep's name on the tracker.
    """

    run: Callable[[list[str], str], int]
    variants: tuple[str, ...]
    group: str

    def __call__(self, cfg: DictConfig) -> int:
        """The exit code of the job."""
        from harness.launch.expand import fitting_variants

        own = list(HydraConfig.get().overrides.task)
        return self.run([*own, *fitting_variants(self.variants, cfg)], self.group)
