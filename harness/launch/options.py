"""`launcher=slurm launcher.partition=gpu jobs=4` on the command line of a sweep, and Hydra's configuration of a launcher."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import OmegaConf

from harness.config import compose as config
from harness.config import mistakes
from harness.config.build import target_class
from harness.config.search_path import started
from harness.errors import UserError, nearest

LAUNCHERS = {"local": "basic", "slurm": "slurm", "ray": "heed_ray"}  # our name: the option of hydra/launcher
SWEEP_ONLY = ("launcher", "jobs", "shards")
INSTALL = "pip install 'heed[{0}]' (in a checkout: pip install -c constraints.txt -e '.[{0}]')"


@dataclass(frozen=True)
class Options:
    """`values`: options of the launcher, key to text. `hydra`: overrides of Hydra itself."""

    name: str = "local"
    values: tuple[tuple[str, str], ...] = ()
    jobs: int = 1
    shards: int = 1
    hydra: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether jobs run one after another in this process."""
        return self.name == "local" and not any(o.startswith("hydra/launcher=") for o in self.hydra)


def split(overrides: Sequence[str]) -> tuple[list[str], Options]:
    """What describes the cells, and what says how they are computed."""
    rest, found, values, hydra = [], {}, {}, []
    for text in overrides:
        key, _, value = text.partition("=")
        if key in SWEEP_ONLY:
            found[key] = value
        elif key.lstrip("+").startswith("launcher."):
            values[key.lstrip("+").removeprefix("launcher.")] = value
        elif key.lstrip("+").startswith(("hydra.", "hydra/")):
            hydra.append(text)
        else:
            rest.append(text)
    name = found.get("launcher", "local")
    if name not in LAUNCHERS:
        raise UserError(f"Unknown launcher '{name}': {nearest(name, LAUNCHERS)}")
    jobs, shards = (_count(key, found.get(key, "1")) for key in ("jobs", "shards"))
    return rest, Options(name, tuple(values.items()), jobs, shards, tuple(hydra))


def refuse_without_m(overrides: Sequence[str]) -> None:
    """`heed run` without -m is one job in this process."""
    for text in overrides:
        key = text.partition("=")[0].lstrip("+")
        if key in SWEEP_ONLY or key.startswith("launcher."):
            raise UserError(
                f"{text}: {key.split('.')[0]} belongs to a sweep, and `heed run` is one job in this process. Add -m: heed run -m {text} ..."
            )


def _count(key: str, text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", text) or int(text) > config.MOST_PARTS:
        raise UserError(
            f"{key}={text}: how many {key}? Write a number from 1 to {config.MOST_PARTS}, for example {key}=4."
        )
    return int(text)


def launcher(options: Options, folder: Path, task: TaskFunction) -> Launcher:
    """The launcher, ready to launch. `folder`: of this sweep, for logs and what travels to the jobs."""
    _check_installed(options.name)
    chosen = (
        []
        if any(o.startswith("hydra/launcher=") for o in options.hydra)
        else [f"hydra/launcher={LAUNCHERS[options.name]}"]
    )
    quoted = str(folder.absolute()).replace("\\", "\\\\").replace("'", "\\'")
    base = [
        *chosen, *options.hydra, f"hydra.sweep.dir='{quoted}'", "hydra.sweep.subdir=.", "hydra.output_subdir=null",
        "hydra/job_logging=none", "hydra/hydra_logging=none",
    ]  # fmt: skip
    with started():
        try:
            if options.values:
                known = compose("config", overrides=base, return_hydra_config=True).hydra.launcher
                base += [_option(options.name, key, value, known) for key, value in options.values]
            cfg = compose("config", overrides=base, return_hydra_config=True)
            values: Any = OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
        except (config.HydraException, config.OmegaConfBaseException) as error:
            raise UserError(mistakes.explain(error, base)) from error
        context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks(cfg))
    made = target_class(values, "hydra.launcher")(**{k: v for k, v in values.items() if k != "_target_"})
    made.setup(hydra_context=context, task_function=task, config=cfg)
    return made


def _option(name: str, key: str, value: str, known: Any) -> str:
    """Hydra's override for `launcher.key=value`; keys inside a dictionary may be new."""
    first, _, inner = key.partition(".")
    keys = [str(k) for k in known if k != "_target_"]
    if first not in keys:
        raise UserError(f"Unknown key 'launcher.{key}' (of launcher={name}): {nearest(first, keys)}")
    return f"{'++' if inner else ''}hydra.launcher.{key}={value}"


def _check_installed(name: str) -> None:
    """`UserError` with the remedy if the launcher cannot work here."""
    if name == "ray":
        try:
            importlib.import_module("hydra_plugins.heed_ray.launcher")  # registers its options
        except ImportError as error:
            raise UserError(f"launcher=ray needs what is not installed ({error}): {INSTALL.format('ray')}.") from error
    if name != "slurm":
        return
    if not (_has("submitit") and _has("hydra_plugins.hydra_submitit_launcher")):
        raise UserError(
            f"launcher=slurm needs the package hydra-submitit-launcher, which is not installed: {INSTALL.format('slurm')}, on the "
            "login node and on the nodes. Without it, launcher=local runs the same jobs here."
        )
    if shutil.which("sbatch") is None:
        raise UserError(
            "launcher=slurm needs Slurm's command sbatch, which is not on the PATH. Start the sweep on a machine from which jobs are "
            "submitted (a login node; `module load slurm` on some clusters), or use launcher=local."
        )


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False
