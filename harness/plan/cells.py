"""From a configuration to cells: what is done, what is left, and about what it costs. Imports no torch, loads no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from harness.asking.decoding import Decoding
from harness.config.build import group
from harness.config.compose import BASELINE
from harness.disk.content import file_digest
from harness.identity import run_id as identity
from harness.records import seal
from harness.running import calibrate

if TYPE_CHECKING:
    from harness.contracts.method import Method
    from harness.contracts.task import Task
    from harness.models.load import ModelSpec


@dataclass(frozen=True)
class Cell:
    """One model x one method x one task: the unit of work, of caching, of resuming."""

    run_id: str
    model_label: str
    method_label: str
    task_label: str
    spec: ModelSpec
    method: Method
    task: Task
    identity: Mapping[str, Any]

    @property
    def label(self) -> str:
        return f"{self.model_label} / {self.method_label} / {self.task_label}"

    def config(self, preset: str) -> dict[str, Any]:
        """What `config.json` stores: labels, identity, and the facts that tables and statistics need."""
        return {
            "labels": {"model": self.model_label, "method": self.method_label, "task": self.task_label},
            "preset": preset,
            "identity": dict(self.identity),
            "task_facts": {
                "metrics": [asdict(m) for m in self.task.metrics],
                "by": list(self.task.by),
                "chance": dict(self.task.chance),
                "unreadable": list(self.task.unreadable),
            },
            "method_facts": {
                "paper": self.method.paper,
                "needs": sorted(self.method.needs),
                "budget": self.method.budget_unit,
                "leaves_out": self.method.leaves_out,
                "question": self.method.question_phase,
            },
        }


def cells(cfg: DictConfig) -> list[Cell]:
    """All cells of a configuration: by model, then task, dense first; equal cells under two labels are one cell."""
    specs, methods, tasks = (group(cfg, g) for g in ("model", "method", "task"))
    order = sorted(methods, key=lambda m: m != BASELINE)
    out: dict[str, Cell] = {}
    model_ids = {m: spec.identity() for m, spec in specs.items()}
    method_ids = {a: method_identity(m) for a, m in methods.items()}
    task_ids = {t: task_identity(task) for t, task in tasks.items()}
    common = {"version": identity.VERSION, "libraries": identity.libraries()}
    common |= {"decoding": decoding(cfg).identity(), "seed": cfg.seed}
    learned = {a: calibrate.task_of(method) for a, method in methods.items()}
    calibrations = {a: task_identity(task) for a, task in learned.items() if task is not None}
    limits = {t: effective_limit(task, cfg.limit) for t, task in tasks.items()}
    lowerings = {
        a: cfg.lowering if any(hook.is_lowered for hook in method.hooks) else None for a, method in methods.items()
    }
    for m, spec in specs.items():
        for t, task in tasks.items():
            for a in order:
                whole = common | {"model": model_ids[m], "method": method_ids[a], "task": task_ids[t]}
                whole |= {"limit": limits[t], "lowering": lowerings[a]}
                whole |= {"calibration": calibrations[a]} if a in calibrations else {}
                run = identity.run_id(whole)
                out.setdefault(run, Cell(run, m, a, t, spec, methods[a], task, whole))
    return list(out.values())


def part(cells: Sequence[Cell], i: int, n: int, limit: int | None = None) -> list[Cell]:
    """The i-th (from 0) of `n` parts of a plan, about equal in tokens. A model's cells on one task stay together, since
    they share data, baseline and prefill, unless there are too few such groups for `n` parts. The same plan is always
    cut the same way.
    """
    by_task = _by(cells, lambda c: (c.model_label, c.task_label))
    units = by_task if len(by_task) >= n else _by(cells, lambda c: c.run_id)
    loads, mine = [0.0] * n, []
    for unit in sorted(units, key=lambda u: (-_tokens(u, limit), u[0].run_id)):
        lightest = min(range(n), key=lambda k: (loads[k], k))
        loads[lightest] += _tokens(unit, limit)
        if lightest == i:
            mine += unit
    chosen = {c.run_id for c in mine}
    return [c for c in cells if c.run_id in chosen]


def _by(cells: Sequence[Cell], key: Callable[[Cell], Any]) -> list[list[Cell]]:
    found: dict[Any, list[Cell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return list(found.values())


def _tokens(cells: Sequence[Cell], limit: int | None) -> float:
    """Prompt and new tokens by the task's own estimate; at least one for each cell."""
    total = 0.0
    for cell in cells:
        n, tokens = cell.task.size()
        total += max(1.0, tokens * limit / n if limit is not None and n > limit else tokens)
    return total


def decoding(cfg: DictConfig) -> Decoding:
    """The checked decoding settings of a run."""
    values: Any = OmegaConf.to_container(cfg.decoding, resolve=True)
    made = Decoding(**values, seed=cfg.seed)
    made.validate()
    return made


def effective_limit(task: Task, limit: int | None) -> int | None:
    """None where the limit takes nothing away."""
    n = task.size()[0]
    return None if limit is not None and n and limit >= n else limit


def method_identity(method: Method) -> dict[str, Any]:
    """Class, parameters and source of a method; an artifact that was named stands there by its content, the task that it
    is calibrated on by its identity, so that no path does.
    """
    facts = identity.extension_identity(method, calibrate.given_files(method))
    task = calibrate.task_of(method)
    if task is not None:
        node = identity.plain(method.calibration())
        name = f"task:{identity.sha256(identity.canonical(task_identity(task)))[:16]}"
        facts["params"] = {key: name if value == node else value for key, value in facts["params"].items()}
    return facts


def task_identity(task: Task) -> dict[str, Any]:
    """Class, parameters, source and data of a task; paths are replaced by the digest of what they name."""
    from harness.models.load import tokenizer_identity

    digests = data_digests(task)
    if task.tokenizer:
        digests[str(Path(task.tokenizer))] = f"tokenizer:{tokenizer_identity(str(task.tokenizer))}"
    return identity.extension_identity(task, digests, task.folders) | {
        "data": sorted(digests.values()),
        "provenance": dict(task.provenance()),
    }


def data_digests(task: Task) -> dict[str, str]:
    """path -> digest of the task's files as they are now."""
    return {str(path): f"sha256:{file_digest(path)}" for path in task.data_files()}


def is_done(root: Path, run: str) -> bool:
    """Whether a cell's folder says DONE (its content is checked when it is opened)."""
    return seal.is_there(root / "runs" / run)
