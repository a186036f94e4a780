"""The Hydra launcher `heed_ray`.

PyPI's `hydra-ray-launcher` hands every job to a Ray task. A task keeps nothing for the next one (with a GPU, each has a
fresh process), so the model would be loaded again for every job; the output of all jobs arrives mixed on one terminal; and
a job whose process died ends the sweep with Ray's exception. What is wanted is one actor per GPU that keeps its model and
takes jobs until none is left, so this launcher is written on Ray's actors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.heed_ray._conf import RayConf

ConfigStore.instance().store(group="hydra/launcher", name="heed_ray", node=RayConf, provider="heed")


class RayLauncher(Launcher):
    """Runs the jobs of a sweep in the actors of a Ray cluster and returns how each ended, in their order."""

    def __init__(self, **options: Any) -> None:
        plain: dict[str, Any] = {k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in options.items()}
        self.options = RayConf(**plain)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Ends when all jobs have ended: each with its exit code, or with a `UserError`, a `JobLost` (its actor died too
        often) or a `JobBug` as the exception of its return.
        """
        from hydra_plugins.heed_ray import _cluster
        from hydra_plugins.heed_ray._actor import Work
        from hydra_plugins.heed_ray._jobs import jobs_of
        from hydra_plugins.heed_ray._queue import Queue

        setup_globals()
        _cluster.check(self.options)
        logs = Path(str(self.config.hydra.sweep.dir)).absolute()
        logs.mkdir(parents=True, exist_ok=True)
        jobs = jobs_of(job_overrides, initial_job_idx, logs)
        with _cluster.joined(self.options) as ray:
            start = _cluster.starter(ray, self.options, len(jobs))
            queue = Queue(ray, jobs, start, self.options.max_restarts, self.options.start_timeout)
            return queue.run(Work.of(self.context, self.task, self.config), logs)
