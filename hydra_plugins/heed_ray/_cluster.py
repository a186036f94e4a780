"""Starting or joining a Ray cluster, and how many actors it has room for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from hydra_plugins.heed_ray._actor import Actor
from hydra_plugins.heed_ray._queue import Start

if TYPE_CHECKING:
    from hydra_plugins.heed_ray._conf import RayConf

WITHOUT_RAY = (
    "launcher=ray needs the package ray, which is not installed: pip install 'heed[ray]' (in a checkout: pip install "
    "-c constraints.txt -e '.[ray]'), on every node of the cluster. Without it, launcher=local runs the same jobs here."
)


def check(options: RayConf) -> None:
    """`UserError` for option values that cannot be meant."""
    for key, least in (("actors", 1), ("num_cpus", 0), ("num_gpus", 0), ("max_restarts", 0), ("start_timeout", 0)):
        value = getattr(options, key)
        if value is not None and value < least:
            raise UserError(f"launcher.{key}={value:g} must be at least {least}.")
    for key in ("init", "runtime_env", "actor"):
        value = getattr(options, key)
        if not isinstance(value, dict | None):
            raise UserError(f"launcher.{key}={value} must be a mapping: launcher.{key}='{{key: value}}'.")


@contextmanager
def joined(options: RayConf) -> Iterator[Any]:
    """The module `ray`, connected to the cluster of `options.address`; left again at the end unless the caller had joined
    it. `UserError` if ray is not installed or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless it was asked for
    try:
        import ray
    except ImportError as error:
        raise UserError(WITHOUT_RAY) from error
    if ray.is_initialized():
        yield ray
        return
    address = options.address or "local"
    settings: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address == "local":
        settings["include_dashboard"] = False
    if options.runtime_env:
        settings["runtime_env"] = options.runtime_env
    try:
        ray.init(**settings | (options.init or {}))
    except (ConnectionError, ValueError, TypeError, RuntimeError, ImportError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"The Ray cluster launcher.address={options.address or 'null'} cannot be {'started' if address == 'local' else 'joined'}: "
            f"{why} Check launcher.address (null: this machine; auto: the cluster this machine belongs to; ray://host:port) and "
            f"launcher.init."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def starter(ray: Any, options: RayConf, n_jobs: int) -> Start:
    """How an actor is made, and how many are wanted. `UserError` if a cluster of this machine cannot hold even one."""
    have = ray.cluster_resources()
    num_gpus = options.num_gpus if options.num_gpus is not None else float(have.get("GPU", 0) >= 1)
    needs = {"GPU": num_gpus, "CPU": options.num_cpus}
    room = min((int(have.get(k, 0) // n) for k, n in needs.items() if n), default=n_jobs)
    if room < 1 and options.address is None:
        k = min((k for k, n in needs.items() if n), key=lambda k: have.get(k, 0) / needs[k])
        raise UserError(
            f"An actor needs {needs[k]:g} {k}s, and this machine has {have.get(k, 0):g}: lower launcher.num_{k.lower()}s."
        )
    size = min(options.actors or max(room, 1), n_jobs)
    wanted = {"num_gpus": num_gpus, "num_cpus": options.num_cpus, "max_restarts": 0, "max_task_retries": 0}
    try:
        remote = ray.remote(Actor).options(**wanted | (options.actor or {}))
    except (ValueError, TypeError) as error:
        raise UserError(f"launcher.actor={options.actor}: {' '.join(str(error).split())}") from error
    environment = {k: v for k, v in os.environ.items() if k.startswith("HEED_")}
    return Start(lambda: remote.remote(environment), size)
