"""What a launcher runs for each job: `heed run` with the job's overrides, here or on a node."""

from __future__ import annotations

from dataclasses import dataclass

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


@dataclass(frozen=True)
class Task:
    """Hydra's task function. It travels by reference: nodes import it. `variants`: overrides that Hydra would misread; `group`:
    the sweep's name on the tracker.
    """

    variants: tuple[str, ...]
    group: str

    def __call__(self, cfg: DictConfig) -> int:
        """The exit code of the job."""
        from harness.commands import run
        from harness.launch.expand import fitting_variants

        own = list(HydraConfig.get().overrides.task)
        return run.once([*own, *fitting_variants(self.variants, cfg)], group=self.group)
