"""From a configuration to cells: what is done, what is left, and about what it costs. Imports no torch, loads no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from harness.asking.decoding import Decoding
from harness.config.build import build, group
from harness.config.compose import BASELINE, option
from harness.contracts.probe import Probe
from harness.identity.run_id import VERSION, libraries, run_id_of, written
from harness.plan.calibration import calibration_lesson
from harness.plan.identities import method_identity, task_identity
from harness.plan.needs import Needs
from harness.records import seal
from harness.records.learned import lesson_id

if TYPE_CHECKING:
    from harness.contracts.lesson import Lesson
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
    needs: Needs

    @property
    def label(self) -> str:
        return f"{self.model_label} / {self.method_label} / {self.task_label}"

    def config(self, preset: str) -> dict[str, Any]:
        """What `config.json` stores: labels, identity, needs, and the facts that tables and statistics need."""
        return {
            "labels": {"model": self.model_label, "method": self.method_label, "task": self.task_label},
            "preset": preset,
            "identity": dict(self.identity),
            "needs": self.needs.stored(),
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
        } | ({"columns": [asdict(c) for c in self.method.columns]} if isinstance(self.method, Probe) else {})


def cells(cfg: DictConfig) -> list[Cell]:
    """All cells of a configuration: by model, then task, the baseline first; equal cells under two labels are one cell."""
    specs, methods, tasks = (group(cfg, g) for g in ("model", "probe" if cfg.probe else "method", "task"))
    baseline = methods[BASELINE] if BASELINE in methods else build(option("method", BASELINE), f"method.{BASELINE}")
    parts = _Parts.of(cfg, specs, {BASELINE: baseline, **methods}, tasks)
    order = sorted(methods, key=lambda a: a != BASELINE)
    out: dict[str, Cell] = {}
    for m, spec in specs.items():
        at_work = {a: parts.of_method(m, a) for a in (BASELINE, *order)}
        texts = {a: written(own) for a, own in at_work.items()}
        for t, task in tasks.items():
            asked = parts.of_task(m, t)
            text = written(asked)
            compared = None if cfg.probe else run_id_of(text | texts[BASELINE])
            for a in order:
                run = run_id_of(text | texts[a])
                needs = Needs(compared, parts.lessons[m, a])
                out.setdefault(run, Cell(run, m, a, t, spec, methods[a], task, asked | at_work[a], needs))
    return list(out.values())


@dataclass(frozen=True)
class _Parts:
    """What the identities of cells are put together from, by the labels of models, methods and tasks: each found once."""

    common: Mapping[str, Any]
    models: Mapping[str, Any]
    methods: Mapping[str, Any]
    tasks: Mapping[str, Any]
    limits: Mapping[str, int | None]  # by task
    lowerings: Mapping[str, str | None]  # by method
    lessons: Mapping[tuple[str, str], tuple[Lesson, ...]]  # by model and method
    lesson_ids: Mapping[tuple[str, str], list[str]]

    @classmethod
    def of(
        cls, cfg: DictConfig, specs: Mapping[str, Any], methods: Mapping[str, Method], tasks: Mapping[str, Task]
    ) -> _Parts:
        models = {m: spec.identity() for m, spec in specs.items()}
        lessons = {(m, a): _lessons(a, methods[a], m, specs[m], models[m]) for m in specs for a in methods}
        return cls(
            common={
                "version": VERSION, "libraries": libraries(), "decoding": decoding(cfg).identity(), "seed": cfg.seed
            },
            models=models,
            methods={a: method_identity(method) for a, method in methods.items()},
            tasks={t: task_identity(task) for t, task in tasks.items()},
            limits={t: effective_limit(task, cfg.limit) for t, task in tasks.items()},
            lowerings={
                a: cfg.lowering if any(h.is_lowered for h in method.hooks) else None for a, method in methods.items()
            },
            lessons=lessons,
            lesson_ids={key: [lesson_id(lesson) for lesson in found] for key, found in lessons.items()},
        )  # fmt: skip

    def of_task(self, m: str, t: str) -> dict[str, Any]:
        """What all cells of a model and a task have in common."""
        return {**self.common, "model": self.models[m], "task": self.tasks[t], "limit": self.limits[t]}

    def of_method(self, m: str, a: str) -> dict[str, Any]:
        """What a method adds to it."""
        learned = {"lessons": ids} if (ids := self.lesson_ids[m, a]) else {}
        return {"method": self.methods[a], "lowering": self.lowerings[a], **learned}


def _lessons(
    method_label: str, method: Method, model_label: str, spec: ModelSpec, model_facts: Mapping[str, Any]
) -> tuple[Lesson, ...]:
    """What the method must learn about the model; nothing if the user names a file with it."""
    found = None if method.artifact else calibration_lesson((method_label, model_label), spec, method, model_facts)
    return () if found is None else (found,)


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


def is_done(root: Path, run: str) -> bool:
    """Whether a cell's folder says DONE (its content is checked when it is opened)."""
    return seal.is_there(root / "runs" / run)
