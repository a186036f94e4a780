"""`heed data` and `heed score`: examples to a file, and scores of outputs produced anywhere. No model, no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config import compose
from harness.errors import UserError
from harness.plan import group
from harness.run import tokens_of

DEFAULT_TOKENIZER = "micro-lm"


def write(overrides: list[str]) -> int:
    """Write the examples of one task, a JSON object per line."""
    from harness.data import write_examples

    files, rest = _files(overrides, "out")
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
    return 0


def score(overrides: list[str]) -> int:
    """Score an outputs file against an examples file."""
    from harness.score import rescore

    files, rest = _files(overrides, "examples", "outputs", "out")
    label, task, _ = _one_task(rest)
    result = rescore(task, files["examples"], files["outputs"], files["out"])
    if result["n_missing"]:
        missing = f"{result['n_missing']} of {result['n']} examples have no output and count as wrong"
        Console().print(missing, style="yellow", markup=False, highlight=False)
    shown = ", ".join(f"{k} {v:.4g}" for k, v in result["metrics"].items() if v is not None)
    Console().print(f"{label}: n={result['n']} {shown}; written to {files['out']}", markup=False, highlight=False)
    return 0


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
