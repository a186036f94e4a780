"""Gives jobs to actors until all have ended; an actor that dies is replaced and its job started again.

A job is only given to an actor that has answered: on a full cluster an actor may wait long for its GPU while others work.
Starting a job again is safe because its records tell where it stopped.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from harness import __version__
from harness.errors import UserError
from harness.launch.ended import JobBug, JobLost
from hydra_plugins.heed_ray._actor import Ended, Work
from hydra_plugins.heed_ray._jobs import Job, Models, choose
from hydra_plugins.heed_ray._progress import Line


@dataclass
class Seat:
    """A live actor. `job`: what it runs; None while it starts or waits. `models`: those of its last job."""

    actor: Any
    job: Job | None = None
    models: Models | None = None


@dataclass(frozen=True)
class Start:
    """`new` makes an actor; `size` of them are wanted."""

    new: Callable[[], Any]
    size: int


class Queue:
    """One sweep. `max_restarts`: of each job; `start_timeout`: seconds to wait while no actor has answered."""

    def __init__(self, ray: Any, jobs: Sequence[Job], start: Start, max_restarts: int, start_timeout: float) -> None:
        self.ray, self.jobs, self.start = ray, list(jobs), start
        self.max_restarts, self.start_timeout = max_restarts, start_timeout
        self.waiting = list(jobs)
        self.deaths: Counter[int] = Counter()  # of actors, by the job they ran
        self.ended: dict[int, JobReturn] = {}
        self.calls: dict[Any, Seat] = {}  # what was asked of actors and is not answered yet
        self.idle: list[Seat] = []
        self.wrong: list[str] = []  # what was wrong with actors that could not start

    def run(self, work: Work, logs: Path) -> list[JobReturn]:
        """All jobs, as they ended. `UserError` if the cluster gives no actor that can work."""
        self.logs = logs
        try:
            self.work = self.ray.put(work)
        except ImportError as error:  # a Ray client's data is opened on the head node
            raise UserError(
                f"The head node of the Ray cluster has no heed in this version ({error}): install it."
            ) from error
        with Line(len(self.jobs)) as self.line:
            try:
                for _ in range(self.start.size):
                    self._open()
                while len(self.ended) < len(self.jobs):
                    self._assign()
                    self._answer()
            finally:
                for seat in (*self.calls.values(), *self.idle):
                    self._close(seat)
        return [self.ended[job.number] for job in self.jobs]

    def _open(self) -> None:
        seat = Seat(self.start.new())
        self.calls[seat.actor.ready.remote(os.getcwd(), str(self.logs), __version__)] = seat

    def _close(self, seat: Seat) -> None:
        with contextlib.suppress(Exception):  # it may be dead already
            self.ray.kill(seat.actor)

    def _assign(self) -> None:
        seats = [*self.calls.values(), *self.idle]
        for seat in list(self.idle):
            job = choose(self.waiting, seat.models, [s.models for s in seats if s is not seat])
            if job is None:
                break
            self.idle.remove(seat)
            self.waiting.remove(job)
            seat.job, seat.models = job, job.models
            self.calls[seat.actor.run.remote(self.work, job)] = seat
        self.line.show(running=sum(s.job is not None for s in self.calls.values()))

    def _answer(self) -> None:
        """Wait for the next answer of an actor and take it."""
        if not self.calls:
            raise UserError(f"No actor of the Ray cluster can work: {self.wrong[-1]}")
        starting = all(seat.job is None for seat in self.calls.values())
        answered, _ = self.ray.wait(list(self.calls), timeout=self.start_timeout if starting else None)
        if not answered:
            raise UserError(
                f"The Ray cluster gave no actor within {self.start_timeout:.0f} seconds: its resources are in use. Wait, or ask "
                "for less (launcher.num_gpus=, launcher.num_cpus=), or raise launcher.start_timeout=."
            )
        seat = self.calls.pop(answered[0])
        job, seat.job = seat.job, None
        try:
            value = self.ray.get(answered[0])
        except self.ray.exceptions.RayError as error:
            self._died(seat, job, error)
        else:
            self._answered(seat, job, value)

    def _answered(self, seat: Seat, job: Job | None, value: Any) -> None:
        if job is not None:
            self.idle.append(seat)
            self._end(job, value)
        elif value:
            self._unfit(seat, value)
        else:
            self.idle.append(seat)

    def _died(self, seat: Seat, job: Job | None, error: Exception) -> None:
        self._close(seat)
        if job is None:
            self._unfit(seat, " ".join(str(error).split()))
            return
        with job.log.open("a", encoding="utf-8") as file:
            file.write(f"# the actor of job {job.number} died: {error}\n")
        self.deaths[job.number] += 1
        nth = self.deaths[job.number]
        if nth <= self.max_restarts:
            self.waiting.insert(0, job)
            self.line.tell(f"{job.name}: its actor died; started again ({nth} of {self.max_restarts})", style="yellow")
        else:
            times = "once" if nth == 1 else f"{nth} times"
            self._end(
                job,
                f"its actor died {times} (killed, out of memory, or its node failed); what it finished is kept, its log: {job.log}",
            )
        if self.waiting:
            self._open()

    def _unfit(self, seat: Seat, why: str) -> None:
        self._close(seat)
        self.wrong.append(why)
        self.line.tell(f"an actor cannot work: {why}", style="yellow")

    def _end(self, job: Job, ended: Ended | str) -> None:
        """`ended`: what the actor answered, or why there is no answer."""
        self.ended[job.number] = _returned(job, ended)
        code = 1 if isinstance(ended, str) else ended.code
        how = "lost" if isinstance(ended, str) else f"exit code {code}"
        self.line.end(job.name, f"{how}; its log: {job.log}" if code else "done", not code)


def _returned(job: Job, ended: Ended | str) -> JobReturn:
    returned = JobReturn(overrides=list(job.overrides), status=JobStatus.FAILED)
    if isinstance(ended, str):
        returned.return_value = JobLost(ended)
    elif ended.mistake:
        returned.return_value = UserError(ended.mistake)
    elif ended.traceback:
        returned.return_value = JobBug(ended.traceback)
    else:
        returned.return_value, returned.status = ended.code, JobStatus.COMPLETED
    return returned
