"""`launcher=slurm`: jobs as Slurm arrays, through hydra-submitit-launcher and submitit.

Of that launcher we keep how a job runs on its node and how it goes on after the end of its time: submitit's signal
handler stores the job again, puts it into the queue, and the job, started anew, finds its finished samples in the records.
What differs is the submitting side. There a job that was cancelled or failed would end the sweep while others run; here
every job is waited for and told about. What all jobs have in common is stored once, since plans have thousands of
jobs; arrays are cut to the size that the cluster allows; and jobs that are still in the queue from an earlier start of the
same sweep are waited for, not submitted again.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import submitit
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as SubmititLauncher
from submitit.helpers import DelayedSubmission

from harness.disk.whole import write_bytes, write_json
from harness.errors import UserError
from harness.launch import queue
from harness.launch.ended import JobBug, JobLost
from harness.launch.waiting import Submitted, Waiting
from harness.terminal.visible import visible

SHARED = (
    "timeout_min",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "mem_gb",
    "nodes",
    "name",
    "stderr_to_stdout",
)
QUEUED = "jobs.json"  # what was submitted last, in the sweep's folder


class SlurmLauncher(SubmititLauncher):
    """Submits, waits, and returns how each job ended, in their order: its exit code, a `JobLost` or a `JobBug`."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        folder = Path(self.params["submitit_folder"]).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        asked = [tuple(own) for own in job_overrides]
        waiting = Waiting(folder, len(asked))
        earlier = self._earlier(folder, asked)
        if earlier:
            waiting.tell(
                f"{len(earlier)} jobs of this sweep are in the queue since an earlier start: waiting for them "
                f"(scancel {' '.join(masters(earlier.values()))} would end them)"
            )
        new = [own for own in asked if own not in earlier]
        jobs = earlier | (self._submit(folder, new, initial_job_idx) if new else {})
        write_json(folder / QUEUED, {"jobs": {job: list(own) for own, job in jobs.items()}})
        if new:
            ids = [jobs[own] for own in new]
            waiting.tell(f"{len(ids)} jobs submitted to Slurm as {', '.join(masters(ids))}; logs in {folder}")
        ended = waiting.until_over([Submitted(jobs[own], folder) for own in asked])
        return [_returned(own, ended[jobs[own]]) for own in asked]

    def _earlier(self, folder: Path, asked: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
        """Jobs of an earlier start that Slurm still has, and that are asked for now."""
        file = folder / QUEUED
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))["jobs"]
        except (OSError, ValueError, KeyError):
            return {}
        alive = {job: tuple(stored[job]) for job in queue.active(stored) or {}}
        others = [job for job, own in alive.items() if own not in set(asked)]
        if others:
            raise UserError(
                f"{len(others)} jobs of this plan, divided otherwise, are still in the queue. Wait for them, or end them with "
                f"`scancel {' '.join(masters(others))}`; what they finished is kept."
            )
        return {own: job for job, own in alive.items()}

    def _submit(self, folder: Path, jobs: Sequence[tuple[str, ...]], first: int) -> dict[tuple[str, ...], str]:
        common = OnNode(self._store(folder))
        size = queue.largest_array()
        pieces = [range(i, min(i + size, len(jobs))) for i in range(0, len(jobs), size)]
        executor = self._executor(folder, max(1, self.params["array_parallelism"] // len(pieces)))
        ids: dict[tuple[str, ...], str] = {}
        for piece in pieces:
            try:
                made = executor.map_array(common, [list(jobs[i]) for i in piece], [first + i for i in piece])
            except submitit.core.utils.FailedJobError as error:
                why = " ".join(str(error).split()).removeprefix("sbatch error (1): ")
                kept = (
                    f" {len(ids)} jobs were submitted before that and run on: {', '.join(masters(ids.values()))}."
                    if ids
                    else ""
                )
                raise UserError(
                    f"Slurm does not take the jobs: {why}. Options are given as launcher.KEY=value.{kept}"
                ) from error
            ids |= {jobs[i]: job.job_id for i, job in zip(piece, made, strict=True)}
        return ids

    def _store(self, folder: Path) -> Path:
        """What all jobs share, written once, under a name that depends on it: earlier jobs keep theirs."""
        data = cloudpickle.dumps((self, Singleton.get_state()))
        file = folder / f"common-{hashlib.sha256(data).hexdigest()[:12]}.pkl"
        write_bytes(file, data)
        return file

    def _executor(self, folder: Path, parallelism: int) -> submitit.AutoExecutor:
        options = {k: v for k, v in self.params.items() if k != "submitit_folder" and v is not None} | {
            "array_parallelism": parallelism
        }
        initial = {f"slurm_{k}": options.pop(k) for k in ("max_num_timeout", "python") if k in options}
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster="slurm", **initial)
            executor.update_parameters(**{k if k in SHARED else f"slurm_{k}": v for k, v in options.items()})
        except (NameError, ValueError, TypeError, AssertionError) as error:
            raise UserError(f"An option of launcher=slurm cannot be used: {' '.join(str(error).split())}") from error
        return executor


@dataclass(frozen=True)
class OnNode:
    """A job on its node. `common`: file with the launcher and Hydra's state."""

    common: Path

    def __call__(self, overrides: list[str], number: int) -> dict[str, Any]:
        """Exit code, or the mistake or the traceback that ended the job: plain data, since not every exception travels."""
        launcher, state = cloudpickle.loads(self.common.read_bytes())
        returned = launcher(overrides, "hydra.sweep.dir", number, str(number), state)
        if returned.status is JobStatus.COMPLETED:
            return {"code": returned.return_value}
        error = returned._return_value
        if isinstance(error, UserError):
            print(f"heed: {visible(error)}", flush=True)
            return {"code": 2, "mistake": str(error)}
        traceback.print_exception(error)
        return {"code": 1, "traceback": "".join(traceback.format_exception(error))}

    def checkpoint(self, *args: Any) -> DelayedSubmission:
        """What submitit stores when the time is over: the same job, which the records tell where it stopped."""
        return DelayedSubmission(self, *args)


def masters(ids: Any) -> list[str]:
    """The Slurm jobs of array tasks."""
    return sorted({i.split("_")[0] for i in ids}, key=int)


def _returned(own: Sequence[str], ended: dict[str, Any] | str) -> JobReturn:
    returned = JobReturn(overrides=list(own), status=JobStatus.FAILED)
    if isinstance(ended, str):
        returned.return_value = JobLost(ended)
    elif "mistake" in ended:
        returned.return_value = UserError(ended["mistake"])
    elif "traceback" in ended:
        returned.return_value = JobBug(ended["traceback"])
    else:
        returned.return_value, returned.status = ended["code"], JobStatus.COMPLETED
    return returned
