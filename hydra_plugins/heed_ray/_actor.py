"""What runs inside an actor: one job after another in one process, which keeps the model it loaded last."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from harness import __version__
from harness.errors import UserError
from harness.terminal.visible import visible
from hydra_plugins.heed_ray._jobs import Job


@dataclass(frozen=True)
class Work:
    """What all jobs of a sweep have in common; it is sent to the cluster once."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    singletons: Any  # Hydra's own, among them the options that the submitting process added to its groups

    @staticmethod
    def of(context: HydraContext, task: TaskFunction, config: DictConfig) -> Work:
        return Work(context, task, config, Singleton.get_state())


@dataclass(frozen=True)
class Ended:
    """How a job ended, as plain data, since not every exception travels: its exit code, the text of the `UserError` that
    ended it, or the traceback of a bug.
    """

    code: int
    mistake: str = ""
    traceback: str = ""


class Actor:
    """One process of the cluster, with the GPUs that Ray gave it."""

    def __init__(self, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        os.environ.setdefault("COLUMNS", "140")  # tables in log files

    def ready(self, folder: str, logs: str, version: str) -> str:
        """Move to the folder where the sweep was started. Returns what is wrong with this node, or nothing."""
        node = platform.node()
        if version != __version__:
            return f"node {node} has heed {__version__}, the submitting process has {version}; install one version on all nodes."
        missing = next((path for path in (folder, logs) if not Path(path).is_dir()), None)
        if missing:
            return (
                f"node {node} does not see the folder {missing}. Start the sweep in a folder, and write results to one, that "
                "all nodes share (a network file system)."
            )
        os.chdir(folder)
        from harness.models import kept_model

        kept_model.hold(True)
        return ""

    def run(self, work: Work, job: Job) -> Ended:
        """One job, in this process. Its output is appended to the job's log."""
        with printing_to(job.log):
            given = visible(" ".join(job.overrides))
            print(f"# job {job.number}, process {os.getpid()} on {platform.node()}: {given}", flush=True)
            try:
                ended = Ended(int(self._returned(work, job).return_value or 0))
            except UserError as error:
                ended = Ended(2, mistake=str(error))
                print(f"heed: {visible(error)}")
            except Exception:
                ended = Ended(1, traceback=traceback.format_exc())
                print(ended.traceback)
            print(f"# job {job.number} ended with exit code {ended.code}")
            return ended

    def _returned(self, work: Work, job: Job) -> JobReturn:
        Singleton.set_state(work.singletons)
        setup_globals()
        config = work.context.config_loader.load_sweep_config(work.config, list(job.overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = job.number
        return run_job(
            hydra_context=work.context, task_function=work.task, config=config, job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir", configure_logging=False,
        )  # fmt: skip


@contextmanager
def printing_to(path: Path) -> Iterator[None]:
    """Append what this process prints to a file: Python's own output, and that of libraries below it."""
    kept = os.dup(1), os.dup(2)
    with path.open("a", buffering=1, encoding="utf-8") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield
        finally:
            for number, fd in enumerate(kept, start=1):
                os.dup2(fd, number)
                os.close(fd)
