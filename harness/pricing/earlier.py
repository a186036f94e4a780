"""What stored runs tell about a plan: how long prompts and answers really are, and what things took on this machine.

Read are the plan's own folders, and the newest others of the same results folder. A run made on another machine (another
platform or number of processors) tells lengths, but no times.
"""

from __future__ import annotations

import heapq
import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.identity.run_id import canonical
from harness.plan.cells import Cell

ROWS = 2000  # samples of one cell that are looked at
EACH = 3  # cells of one model and method, and of one model and task, that are read
OTHERS = 100  # folders outside the plan


@dataclass(frozen=True)
class Earlier:
    """One stored cell. `model`, `task`: canonical identities; `reader`: what makes token ids; `method`: its class.

    `rows`: (prompt, new) tokens of samples, of `count` in all. `seconds`: of all samples, with its part of what `members`
    cells read together (and pictures read once, if `prefixes`); None: not known, or not from this machine. `ttft`,
    `step`: seconds to the first token and of a decode step, of one prompt of `timed_prompt` tokens.
    """

    model: str
    reader: str
    method: str
    task: str
    limit: int | None
    done: bool
    rows: tuple[tuple[int, int], ...]
    count: int
    pictures: int | None = None
    prefixes: bool = False
    members: int = 1
    seconds: float | None = None
    ttft: float | None = None
    step: float | None = None
    timed_prompt: int = 0


def of_plan(plan: Sequence[Cell], root: Path) -> list[Earlier]:
    """Stored cells that say something about the plan's."""
    runs = root / "runs"
    if not runs.is_dir():
        return []
    with os.scandir(runs) as entries:
        there = {e.name: e for e in entries}
    models = {canonical(c.identity["model"]) for c in plan}
    found = [read(runs / c.run_id) for c in _chosen(plan, there)]
    own = {c.run_id for c in plan}
    others = heapq.nlargest(OTHERS, (e for n, e in there.items() if n not in own), key=lambda e: e.stat().st_mtime)
    found += [read(Path(e.path), models) for e in others]
    return [e for e in found if e is not None]


def _chosen(plan: Sequence[Cell], there: Mapping[str, Any]) -> Iterator[Cell]:
    """A few cells of every kind."""
    seen: Counter[tuple[str, ...]] = Counter()
    for cell in plan:
        kinds = (
            (cell.model_label, "method", cell.identity["method"]["target"]),
            (cell.model_label, "task", cell.task_label),
        )
        if cell.run_id in there and any(seen[kind] < EACH for kind in kinds):
            seen.update(kinds)
            yield cell


def read(folder: Path, models: Iterable[str] | None = None) -> Earlier | None:
    """One folder; None if there is nothing to learn from it, or it is no folder of one of the `models`. What is damaged
    is passed over: `heed run` will complain about it.
    """
    try:
        config = _json(folder / "config.json")
        identity = config["identity"]
        model = canonical(identity["model"])
        if models is not None and model not in models:
            return None
        rows, count, pictures, shared = _samples(folder / "samples.jsonl")
        done = (folder / "DONE").exists()
        sessions = _json(folder / "provenance.json")["sessions"]
        here = bool(sessions) and all(_here(s) for s in sessions)
        seconds = None
        took = _json(folder / "cost.json") if here and done and len(sessions) == 1 else {}
        members = int(took.get("side_by_side", 1))
        looked = bool(config.get("columns"))  # a probe's own forwards are no method's pace
        if took and not looked and (members > 1 or "prefill" not in shared):
            seconds = float(took["seconds"])
        timed = _json(folder / "efficiency.json") if here and (folder / "efficiency.json").exists() else {}
        return Earlier(
            model, reader(identity["model"]), str(identity["method"]["target"]), canonical(identity["task"]),
            identity["limit"], done, rows, count, pictures, "picture" in shared, members, seconds,
            timed["ttft_ms"]["median"] / 1e3 if timed else None,
            timed["decode_ms_per_token"]["median"] / 1e3 if timed else None,
            int(timed["prompt_tokens"]) if timed else 0,
        )  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def reader(model: Mapping[str, Any]) -> str:
    """What decides the token ids of a prompt, from the identity of a model."""
    return canonical([model.get(key) for key in ("tokenizer", "template", "image_processor", "revision")])


def but_seed(task: Any) -> str:
    """The identity of a task with another seed: the same but for what was drawn."""
    facts = task if isinstance(task, Mapping) else json.loads(task)
    params = {k: v for k, v in facts["params"].items() if k != "seed"}
    return canonical([facts["target"], facts["source"], facts["data"], params])


def _here(session: Mapping[str, Any]) -> bool:
    facts = (platform.platform(terse=True), platform.machine(), os.cpu_count())
    return (session["platform"], session["machine"], session["cpus"]) == facts


def _samples(file: Path) -> tuple[tuple[tuple[int, int], ...], int, int | None, set[str]]:
    """(prompt, new) tokens of samples, how many samples there are, how many pictures they show (None: not all were
    looked at), and what they shared with others.
    """
    lines = file.read_bytes().split(b"\n")[:-1]
    rows, pictures, shared = [], set(), set()
    for line in lines[:: max(1, -(-len(lines) // ROWS))]:
        row = json.loads(line)
        rows.append((int(row["n_prompt_tokens"]), int(row["n_new_tokens"])))
        pictures.update(row.get("images", ()))
        shared.update(row.get("shared", ()))
    whole = len(rows) == len(lines)
    return tuple(rows), len(lines), len(pictures) if whole else None, shared


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())
