"""`heed run --dry-run`: the cells, what is finished, and an estimate of tokens and time. Loads no model, runs nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.plan import Cell, is_done

NUMBERS = ("examples", "tokens", "time")
SHOWN = 40  # cells listed one by one; a larger plan is summed up


def show(plan: Sequence[Cell], root: Path, limit: int | None, console: Console) -> None:
    """Print the plan."""
    done = [is_done(root, c.run_id) for c in plan]
    speeds = _known_speeds(root) if len(plan) <= 1000 else {}
    table = Table(title=f"{len(plan)} cells, {sum(done)} finished", title_justify="left")
    for column in ("run id", "model", "method", "task", "state", "examples", "tokens", "time"):
        table.add_column(column, justify="right" if column in NUMBERS else "left", overflow="fold")
    total_tokens, total_seconds = 0, 0.0
    for i, (cell, finished) in enumerate(zip(plan, done, strict=True)):
        n, tokens = limited(*cell.task.size(), limit)
        seconds = 0.0 if finished else tokens * speeds.get(cell.model_label, _rough_seconds_per_token(cell.spec))
        if not finished:
            total_tokens, total_seconds = total_tokens + tokens, total_seconds + seconds
        if i < SHOWN:
            state = "done" if finished else _partial(root, cell)
            table.add_row(
                cell.run_id, cell.model_label, cell.method_label, cell.task_label, state,
                str(n or "?"), f"{tokens:,}" if tokens else "?", "-" if finished else clock(seconds),
            )  # fmt: skip
    console.print(table)
    if len(plan) > SHOWN:
        console.print(f"... and {len(plan) - SHOWN} more cells", highlight=False)
    basis = (
        "speeds of earlier runs where there are any"
        if speeds
        else "a rough count of operations (no earlier run to go by)"
    )
    unknown = sum(not c.task.size()[1] for c, finished in zip(plan, done, strict=True) if not finished)
    if unknown:
        basis += f"; {unknown} cells of unknown size are not counted"
    console.print(f"To run: about {total_tokens:,} tokens, {clock(total_seconds)} (from {basis}).", highlight=False)


def limited(n: int, tokens: int, limit: int | None) -> tuple[int, int]:
    """Examples and tokens that `limit` leaves."""
    return (limit, tokens * limit // n) if limit is not None and n > limit else (n, tokens)


def clock(seconds: float) -> str:
    """`95 s`, `12 min`, `3.4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _partial(root: Path, cell: Cell) -> str:
    file = root / "runs" / cell.run_id / "samples.jsonl"
    n = file.read_bytes().count(b"\n") if file.exists() else 0
    return f"{n} samples" if n else "to do"


def _known_speeds(root: Path) -> dict[str, float]:
    """Seconds per token of each model label, from stored runs: wall time of the samples over their tokens."""
    found: dict[str, list[float]] = {}
    for file in (root / "runs").glob("*/cost.json"):
        try:
            stored = json.loads(file.read_text())
            label = json.loads((file.parent / "config.json").read_text())["labels"]["model"]
        except (OSError, ValueError, KeyError):
            continue  # an estimate may pass over a folder that `heed run` will complain about
        if stored.get("tokens"):
            found.setdefault(label, []).append(stored["seconds"] / stored["tokens"])
    return {label: sorted(v)[len(v) // 2] for label, v in found.items()}


def _rough_seconds_per_token(spec: Any) -> float:
    """2 operations per weight and token at a third of this machine's measured matrix speed."""
    folder = spec.resolve()
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors")) if folder else 0
    parameters = size / 2 if size else 1e9
    return 3 * 2 * parameters / _operations_per_second()


@lru_cache(maxsize=1)
def _operations_per_second(n: int = 768) -> float:
    import numpy as np

    a = np.ones((n, n), dtype=np.float32)
    a @ a
    start = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2 * n**3 / (time.perf_counter() - start)
