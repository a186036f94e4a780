"""The passkey report: accuracy by depth (rows) and length (columns) as numbers (csv, json) and as a heat map (png)."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.passkey.picture import Labels, draw

REACHED = 0.9  # a length is reached when its mean accuracy is at least this


@dataclass(frozen=True)
class Matrix:
    """Accuracies in [0, 1], `matrix[depth][length]`; None where no example ran. `n` counts examples per cell."""

    lengths: list[int]
    depths: list[float]
    matrix: list[list[float | None]]
    n: list[list[int]]
    row_means: list[float | None]
    column_means: list[float | None]
    mean: float | None
    reach: int | None  # the longest length with a mean of at least REACHED
    idle: list[int]  # per length: examples that the method could not act on, so that they are dense's
    receptive_field: list[float | None]  # per length: share of the prompt that the method's pattern can reach at all


def matrix(rows: Sequence[Mapping[str, Any]]) -> Matrix:
    """Means over the examples of each cell, row, column and all. Rows need `meta` (length, depth) and `metrics`."""
    cells: dict[tuple[float, int], list[float]] = defaultdict(list)
    for row in rows:
        cells[row["meta"]["depth"], row["meta"]["length"]].append(row["metrics"]["accuracy"])
    depths, lengths = sorted({d for d, _ in cells}), sorted({n for _, n in cells})
    columns = [_mean(v for (_, n), c in sorted(cells.items()) if n == length for v in c) for length in lengths]
    reached = [length for length, mean in zip(lengths, columns, strict=True) if mean is not None and mean >= REACHED]
    return Matrix(
        lengths=lengths,
        depths=depths,
        matrix=[[_mean(cells.get((d, n), ())) for n in lengths] for d in depths],
        n=[[len(cells.get((d, n), ())) for n in lengths] for d in depths],
        row_means=[_mean(v for (d, _), c in sorted(cells.items()) if d == depth for v in c) for depth in depths],
        column_means=columns,
        mean=_mean(v for _, c in sorted(cells.items()) for v in c),
        reach=max(reached, default=None),
        idle=[sum(bool(r.get("idle")) for r in rows if r["meta"]["length"] == n) for n in lengths],
        receptive_field=[_field(rows, length) for length in lengths],
    )


def _field(rows: Sequence[Mapping[str, Any]], length: int) -> float | None:
    return _mean(f for r in rows if r["meta"]["length"] == length and (f := r.get("receptive_field")) is not None)


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def write(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write `passkey.png`, `passkey.csv` and `passkey.json`; nothing for rows that have no length and depth."""
    usable = [row for row in rows if {"length", "depth"} <= set(row.get("meta", ())) and "accuracy" in row["metrics"]]
    if not usable:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    found = matrix(usable)
    label = str(usable[0].get("label") or usable[0].get("method") or "")
    unit = str(usable[0]["meta"].get("unit", "tokens"))
    (folder / "passkey.json").write_text(json.dumps(asdict(found) | {"unit": unit, "label": label}, indent=1) + "\n")
    _write_csv(found, folder / "passkey.csv")
    _draw(found, folder / "passkey.png", label, unit)
    return [folder / f"passkey.{kind}" for kind in ("png", "csv", "json")]


def _write_csv(found: Matrix, path: Path) -> None:
    """One line per depth, one column per length, the means at the right and at the bottom; fractions in [0, 1]."""
    with path.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["depth", *found.lengths, "mean"])
        for depth, values, mean in zip(found.depths, found.matrix, found.row_means, strict=True):
            out.writerow([depth, *values, mean])
        out.writerow(["mean", *found.column_means, found.mean])


def _draw(found: Matrix, path: Path, label: str, unit: str) -> None:
    """Cells in per cent, and under each length its mean and what of it the pattern can reach."""
    values = [[None if v is None else 100 * v for v in row] for row in found.matrix]
    columns = zip(found.lengths, found.column_means, found.receptive_field, strict=True)
    counts = [sum(column) for column in zip(*found.n, strict=True)]
    dense = ["\n= dense" if n == idle else "" for n, idle in zip(counts, found.idle, strict=True)]
    reachable = any(field is not None for field in found.receptive_field)
    reach = "none" if found.reach is None else f"{found.reach}"
    name = f"passkey · {label}" if label else "passkey"
    labels = Labels(
        title=f"{name}\nmean {100 * (found.mean or 0):.1f} %, reach {reach}",
        columns=[_tick(*column) + mark for column, mark in zip(columns, dense, strict=True)],
        rows=[f"{depth:g}" for depth in found.depths],
        x=f"length ({unit}); mean (%)" + ("; within reach of the pattern" if reachable else ""),
        y="needle depth (%)",
        bar="accuracy (%)",
    )
    draw(values, labels, path)


def _tick(length: int, mean: float | None, field: float | None) -> str:
    text = f"{length}\n{'-' if mean is None else f'{100 * mean:.0f}'}"
    return text if field is None else f"{text}\nsees {100 * field:.0f} %"
