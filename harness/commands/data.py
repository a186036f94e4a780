"""`heed data` and `heed score`: examples to a file, and scores of outputs produced anywhere. No weights, no GPU.

Examples depend on a model all the same: its tokenizer and chat template decide how much text a length holds. `heed data`
takes them from the model that is named (model=), as a run would; without one, from the zoo's micro-lm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from harness.config.build import group
from harness.config.compose import compose
from harness.contracts.example import Skipped
from harness.contracts.task import Task
from harness.disk.output import output, output_folder
from harness.disk.reading import user_path
from harness.disk.whole import disk_error
from harness.errors import UserError
from harness.models.tokens import TextTokens
from harness.plan.refusals import facts, fitting
from harness.running.examples import tokens_of
from harness.terminal.printing import Terminal


def write(overrides: list[str]) -> int:
    """Write the examples of one task, a JSON object per line; with `folder=` also the source data of a generated task."""
    from harness.exchange.data import write_examples

    files, rest = _files(overrides, "out", maybe=("folder",))
    folder = output_folder("folder=", files["folder"]) if "folder" in files else None
    out = output("out=", files["out"])
    label, task, cfg = _one_task(rest)
    out = output("out=", files["out"], task.data_files())
    task, tokens, too_long = _for_model(cfg, label, task, _names_model(rest))
    summary = write_examples(task, tokens, out, cfg.limit, too_long)
    console = Terminal()
    console.print(
        f"{label}: {summary['n']} examples in {out} (sha256 {summary['sha256'][:16]}), for the tokenizer of {tokens.name} "
        f"(template: {tokens.template})",
    )
    if summary["left_out"]:
        console.print(f"limit={cfg.limit} leaves it without an example of {summary['left_out']}.", soft_wrap=True)
    if summary["n_skipped"]:
        console.print(f"{summary['n_skipped']} skipped: {summary['reasons']}")
    if folder:
        _export(task, folder, console)
    return 0


def _names_model(overrides: list[str]) -> bool:
    return any(o.lstrip("+").partition("=")[0].split(".")[0] in ("model", "suite") for o in overrides)


def _for_model(cfg: DictConfig, label: str, task: Task, named: bool) -> tuple[Task, TextTokens, tuple[Skipped, ...]]:
    """The task as the configured model can read it, and what measures its lengths. What the model has no positions for is
    skipped if it was named; micro-lm, which stands in for any model, sets no limit.
    """
    specs = group(cfg, "model")
    if len(specs) != 1:
        raise UserError(f"This verb takes one model, not {len(specs)}: {', '.join(specs)}.")
    ((model, spec),) = specs.items()
    spec.validate()
    kept, too_long = fitting(task, label, model, facts(spec).positions if named else None)
    return kept, spec.tokens() if task.tokenizer is None else tokens_of(task.tokenizer, None), too_long


def _export(task: Any, folder: Path, console: Console) -> None:
    """Write the source data and tell what it is: the files in `folder`, and how many there are in folders below it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = task.export(folder)
    except OSError as error:
        raise disk_error(folder, error) from error
    inside = Counter(path.relative_to(folder).parts[0] for path in written)
    names = [name if (folder / name).is_file() else f"{name}/ ({n} files)" for name, n in inside.items()]
    console.print(f"In {folder}: {', '.join(names)}")


def score(overrides: list[str]) -> int:
    """Score an outputs file against an examples file, or against the task's own examples where it has some."""
    from harness.exchange.score import rescore

    files, rest = _files(overrides, "outputs", "out", maybe=("examples",))
    if any(o.partition("=")[0].split(".")[0] == "model" for o in rest):
        raise UserError(
            "Scores depend on examples and outputs alone, so `heed score` takes no model; leave model= out."
        )
    given = {name: user_path(files[name]) for name in ("examples", "outputs") if name in files}
    output("out=", files["out"], given.values())
    label, task, _ = _one_task(rest)
    out = output("out=", files["out"], [*given.values(), *task.data_files()])
    result = rescore(task, given.get("examples"), given["outputs"], out)
    if result["n_missing"]:
        missing = f"{result['n_missing']} of {result['n']} examples have no output and {task.without_output}"
        Terminal().print(missing, style="yellow")
    if result["n_empty"]:
        empty = f"{result['n_empty']} of {result['n']} outputs are empty"
        Terminal().print(empty, style="yellow")
    Terminal().print(f"{label}: n={result['n']} {_numbers(task, result)}; written to {out}")
    return 0


def _numbers(task: Any, result: Mapping[str, Any]) -> str:
    """The metrics that the terminal shows, with their intervals; those of single question sets are in the file."""
    names = [m.name for i, m in enumerate(task.metrics) if not i or (m.shown and len(m.macro) != 1)]
    found = []
    for name in names:
        value, (low, high) = result["metrics"][name], result["intervals"][name]
        if value is not None:
            found.append(f"{name} {value:.4g}" + (f" [{low:.3g}, {high:.3g}]" if low is not None else ""))
    return ", ".join(found)


def _files(overrides: list[str], *names: str, maybe: tuple[str, ...] = ()) -> tuple[dict[str, str], list[str]]:
    """Take the verb's own `name=FILE` arguments out of the overrides: all of `names` are required, those of `maybe` not."""
    found: dict[str, str] = {}
    rest = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key in (*names, *maybe):
            found[key] = value
        else:
            rest.append(text)
    if missing := [n for n in names if n not in found]:
        raise UserError(
            f"Missing {', '.join(f'{n}=FILE' for n in missing)}. Needed: task=NAME {' '.join(f'{n}=FILE' for n in names)}."
        )
    if empty := [n for n, value in found.items() if not value.strip()]:
        raise UserError(f"{empty[0]}= is empty (a variable that is not set?). Name a file: {empty[0]}=FILE.")
    return found, rest


def _one_task(overrides: list[str]) -> tuple[str, Task, DictConfig]:
    """Label, task and the configuration."""
    if not any(o.startswith("task=") for o in overrides):
        raise UserError("Name the task: task=NAME. `heed list tasks` shows them.")
    cfg = compose(overrides)
    tasks = group(cfg, "task")
    if len(tasks) != 1:
        raise UserError(f"This verb takes one task, not {len(tasks)}: {', '.join(tasks)}.")
    ((label, task),) = tasks.items()
    return label, task, cfg
