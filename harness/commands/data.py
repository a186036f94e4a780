"""`heed data` and `heed score`: examples to a file, and scores of outputs produced anywhere. No model, no GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config import compose
from harness.errors import UserError
from harness.plan import group
from harness.records.files import disk_error
from harness.run import tokens_of

DEFAULT_TOKENIZER = "micro-lm"


def write(overrides: list[str]) -> int:
    """Write the examples of one task, a JSON object per line; with `folder=` also the source data of a generated task."""
    from harness.data import write_examples

    folder = next((o.partition("=")[2] for o in overrides if o.startswith("folder=")), "")
    if folder and Path(folder).expanduser().is_file():
        raise UserError(f"folder={folder} is a file. Name a folder, which is made where it does not exist.")
    files, rest = _files([o for o in overrides if not o.startswith("folder=")], "out")
    label, task, limit = _one_task(rest)
    tokens = tokens_of(task.tokenizer or DEFAULT_TOKENIZER, None)
    summary = write_examples(task, tokens, files["out"], limit)
    console = Console()
    console.print(
        f"{label}: {summary['n']} examples in {files['out']} (sha256 {summary['sha256'][:16]})",
        markup=False,
        highlight=False,
    )
    if summary["n_skipped"]:
        console.print(f"{summary['n_skipped']} skipped: {summary['reasons']}", markup=False, highlight=False)
    if folder:
        _export(task, Path(folder).expanduser(), console)
    return 0


def _export(task: Any, folder: Path, console: Console) -> None:
    """Write the source data and tell what it is: the files in `folder`, and how many there are in folders below it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = task.export(folder)
    except OSError as error:
        raise disk_error(folder, error) from error
    inside = Counter(path.relative_to(folder).parts[0] for path in written)
    names = [name if (folder / name).is_file() else f"{name}/ ({n} files)" for name, n in inside.items()]
    console.print(f"In {folder}: {', '.join(names)}", markup=False, highlight=False)


def score(overrides: list[str]) -> int:
    """Score an outputs file against an examples file, or against the task's own examples where it has some."""
    from harness.score import rescore

    own = not any(text.startswith("examples=") for text in overrides)
    files, rest = _files(overrides, *(() if own else ("examples",)), "outputs", "out")
    label, task, _ = _one_task(rest)
    result = rescore(task, files.get("examples"), files["outputs"], files["out"])
    if result["n_missing"]:
        counted = "and count as wrong" if "coverage" not in result["metrics"] else "and lower the coverage"
        missing = f"{result['n_missing']} of {result['n']} examples have no output {counted}"
        Console().print(missing, style="yellow", markup=False, highlight=False)
    if result["n_empty"]:
        empty = f"{result['n_empty']} of {result['n']} outputs are empty"
        Console().print(empty, style="yellow", markup=False, highlight=False)
    Console().print(
        f"{label}: n={result['n']} {_numbers(task, result)}; written to {files['out']}", markup=False, highlight=False
    )
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


def _files(overrides: list[str], *names: str) -> tuple[dict[str, Path], list[str]]:
    """Take the verb's own `name=FILE` arguments out of the overrides; all are required."""
    found: dict[str, Path] = {}
    rest = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key in names:
            found[key] = Path(value).expanduser()
        else:
            rest.append(text)
    if missing := [n for n in names if n not in found]:
        raise UserError(
            f"Missing {', '.join(f'{n}=FILE' for n in missing)}. Needed: task=NAME {' '.join(f'{n}=FILE' for n in names)}."
        )
    return found, rest


def _one_task(overrides: list[str]) -> tuple[str, Any, int | None]:
    """Label, task and `limit`."""
    if not any(o.startswith("task=") for o in overrides):
        raise UserError("Name the task: task=NAME. `heed list tasks` shows them.")
    cfg = compose(overrides)
    tasks = group(cfg, "task")
    if len(tasks) != 1:
        raise UserError(f"This verb takes one task, not {len(tasks)}: {', '.join(tasks)}.")
    ((label, task),) = tasks.items()
    return label, task, cfg.limit
