"""What Slurm says about jobs, through squeue, scontrol and (where there is accounting) sacct.

submitit asks sacct alone, which many small clusters do not have; a cancelled job would never end there.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

SECONDS = 30  # that a command of Slurm may take
MAX_ARRAY = 1001  # Slurm's own default of MaxArraySize


@dataclass(frozen=True)
class State:
    """`name`: as squeue says it (RUNNING, PENDING, ...); `why`: the reason of a job that waits."""

    name: str
    why: str = ""


def active(ids: Collection[str]) -> dict[str, State] | None:
    """Jobs and array tasks among `ids` (`12`, `12_3`) that the queue still holds; None if Slurm does not answer."""
    if not ids:
        return {}
    masters = sorted({i.split("_")[0] for i in ids})
    text = _ask("squeue", "-h", "-r", "-o", "%i|%T|%r", "-j", ",".join(masters))
    if text is None:
        return None
    found = {}
    for line in text.splitlines():
        key, name, why = [*line.strip().split("|"), "", ""][:3]
        if key in ids:
            found[key] = State(name, "" if why == "None" else why)
    return found


def ending(key: str) -> str:
    """How a job that left the queue ended, in Slurm's words (`CANCELLED`, `TIMEOUT`, `NODE_FAIL`, ...), or nothing."""
    told = _ask("sacct", "-n", "-P", "-X", "-j", key, "-o", "State") or ""
    if words := told.split():
        return words[0]
    shown = _ask("scontrol", "show", "job", key) or ""
    match = re.search(r"JobState=(\w+)", shown)
    return match[1] if match else ""


def largest_array() -> int:
    """How many tasks an array may have on this cluster."""
    match = re.search(r"MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "")
    return max(1, int(match[1]) if match else MAX_ARRAY)


def _ask(*command: str) -> str | None:
    """What a command prints; nothing if it knows none of the jobs, None if it cannot be asked."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode == 0:
        return done.stdout
    return "" if "Invalid job id" in done.stderr else None
