"""The options of the launcher, as Hydra's config store holds them."""

from dataclasses import dataclass
from typing import Any


@dataclass
class RayConf:
    """`hydra.launcher.KEY=value`; what Ray itself can do stands in `init`, `runtime_env` and `actor`."""

    _target_: str = "hydra_plugins.heed_ray.launcher.RayLauncher"
    address: str | None = None  # null: a cluster of this machine for this sweep; auto; ray://host:port
    actors: int | None = None  # null: as many as the cluster has room for, at most one per job
    num_gpus: float | None = None  # GPUs of an actor; null: 1 where the cluster has GPUs, else 0
    num_cpus: float = 1  # CPUs of an actor; on a CPU also the threads it computes with
    max_restarts: int = 2  # how often a job is started again after its actor died
    start_timeout: float = 600  # seconds to wait for the first actor
    init: Any = None  # arguments of ray.init, {key: value}; Any, so that keys can be given without a plus
    runtime_env: Any = None  # the actors' environment
    actor: Any = None  # the actors' options: resources, memory, ...
