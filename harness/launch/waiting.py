"""Waits for submitted jobs, whatever becomes of them, and says of each how it ended."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from harness.launch import queue
from harness.terminal.printing import Terminal

FIRST, SLOWEST = 1.0, 10.0  # seconds between two looks
GRACE = 10.0  # seconds that a result may need to become visible on a shared folder after its job left the queue
SAID = {
    "CANCELLED": "was cancelled",
    "TIMEOUT": "was ended at its time limit before it could put itself into the queue again (raise launcher.signal_delay_s)",
    "NODE_FAIL": "was lost with its node",
    "OUT_OF_MEMORY": "was ended for using more memory than it asked for (launcher.mem_gb)",
    "PREEMPTED": "was ended for a job of higher priority",
}


@dataclass(frozen=True)
class Submitted:
    """`key`: Slurm's name of the job or array task."""

    key: str
    folder: Path

    @property
    def log(self) -> Path:
        """What the job printed."""
        return self.folder / f"{self.key}_0_log.out"

    @property
    def result(self) -> Path:
        """Where submitit stores what the job returned."""
        return self.folder / f"{self.key}_0_result.pkl"


class Waiting:
    """The wait of one sweep. On a terminal a line shows the counts; every job that ended gets a line."""

    def __init__(self, folder: Path, total: int) -> None:
        self.folder, self.total = folder, total
        self.console = Terminal()
        self.over: dict[str, dict[str, Any] | str] = {}
        self._held: set[str] = set()

    def tell(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def until_over(self, jobs: Sequence[Submitted]) -> dict[str, dict[str, Any] | str]:
        """For each job what it returned, or one sentence that says what ended it."""
        left, gone, pause = {j.key: j for j in jobs}, dict[str, float](), FIRST
        try:
            with self.console.status("jobs: submitted") as line:
                while left:
                    if not self._collect(left):
                        states = queue.active(list(left))
                        if states is not None:
                            self._notice(left, gone, states)
                            self._warn(states)
                            line.update(self._counts(states))
                    if left:
                        time.sleep(pause)
                        pause = min(SLOWEST, pause * 1.2)
        except KeyboardInterrupt:
            ids = " ".join(sorted({k.split("_")[0] for k in left}, key=int))
            raise KeyboardInterrupt(
                f"the {len(left)} jobs go on without this process: `heed status` shows what they finish, `scancel {ids}` ends them"
            ) from None
        return self.over

    def _collect(self, left: dict[str, Submitted]) -> int:
        """Take the results that are there; how many."""
        names = {entry.name for entry in os.scandir(self.folder)}
        found = [job for job in left.values() if job.result.name in names]
        for job in found:
            self._end(left, job, _result(job))
        return len(found)

    def _notice(self, left: dict[str, Submitted], gone: dict[str, float], states: dict[str, queue.State]) -> None:
        """Jobs that left the queue without a result, some time ago."""
        now = time.monotonic()
        for key in list(left):
            if key in states:
                gone.pop(key, None)
            elif now - gone.setdefault(key, now) > GRACE:
                job, state = left[key], queue.ending(key)
                log = f"; its log: {job.log}" if job.log.exists() else ""
                how = SAID.get(state, f"ended without a result ({state or 'unknown to Slurm'})")
                self._end(left, job, how + log)

    def _warn(self, states: dict[str, queue.State]) -> None:
        """Jobs that will not start by themselves."""
        for key, state in states.items():
            if state.name == "PENDING" and "held" in state.why and key not in self._held:
                self._held.add(key)
                self.tell(
                    f"job {key} is held ({state.why}): `scontrol release {key}` lets it start, `scancel {key}` ends it"
                )

    def _end(self, left: dict[str, Submitted], job: Submitted, how: dict[str, Any] | str) -> None:
        del left[job.key]
        self.over[job.key] = how
        if isinstance(how, str):
            self.over[job.key] = f"job {job.key} {how}"
            word = how.partition(";")[0]
        else:
            word = "done" if not how["code"] else f"exit code {how['code']}; its log: {job.log}"
        self.tell(f"[{len(self.over)}/{self.total}] job {job.key}: {word}")

    def _counts(self, states: dict[str, queue.State]) -> str:
        counts = Counter(state.name.lower() for state in states.values())
        waits = Counter(
            s.why for s in states.values() if s.name == "PENDING" and s.why not in ("", "Priority", "Resources")
        )
        why = f" ({waits.most_common(1)[0][0]})" if waits else ""
        return f"jobs: {len(self.over)} over, " + ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) + why


def _result(job: Submitted) -> dict[str, Any] | str:
    """What the job returned. One that submitit ended (too many time limits, an error before our code) has no such result."""
    outcome, value = submitit.core.utils.pickle_load(job.result)
    if outcome == "success":
        return value
    lines = str(value).strip().splitlines()
    return f"failed: {lines[-1] if lines else 'no reason was given'}; its log: {job.log}"
