"""The per-position curve: mean nll by the number of ids a prediction can see, as csv and png."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Bucket:
    """Predictions with `low <= position < high`: how many, and their mean nll in nats (infinite where one was)."""

    low: int
    high: int
    tokens: int
    nll: float


def curve(rows: Sequence[Mapping[str, Any]], infinite: float = math.inf) -> list[Bucket]:
    """Sum the `nll_sum@low-high` and `tokens@low-high` metrics of sample rows, in order of position.

    A sum that reaches `infinite` holds a token of probability 0.
    """
    parts: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for key, count in row["metrics"].items():
            name, _, bucket = key.partition("@")
            if name == "tokens" and bucket:
                parts.setdefault(bucket, []).append((count, row["metrics"][f"nll_sum@{bucket}"]))
    found = []
    for bucket, sums in parts.items():
        low, high = map(int, bucket.split("-"))
        count, nll = math.fsum(c for c, _ in sums), math.fsum(s for _, s in sums)
        found.append(Bucket(low, high, int(count), math.inf if nll >= infinite else nll / count))
    return sorted(found, key=lambda b: b.low)


def write(rows: Sequence[Mapping[str, Any]], folder: Path, infinite: float = math.inf) -> list[Path]:
    """Write `perplexity.png` and `perplexity.csv`; nothing without a scored token."""
    found = curve(rows, infinite)
    if not found:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    png, table = folder / "perplexity.png", folder / "perplexity.csv"
    with table.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["position_from", "position_below", "tokens", "nll", "ppl"])
        for b in found:
            out.writerow([b.low, b.high, b.tokens, b.nll, _exp(b.nll)])
    _draw(found, png, str(rows[0].get("label") or rows[0].get("method") or ""))
    return [png, table]


def _exp(nll: float) -> float:
    return math.exp(nll) if nll < 709 else math.inf


def _draw(found: Sequence[Bucket], path: Path, label: str) -> None:
    """One step per bucket, its height the mean nll; an infinite one is left out and named in the title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = [b for b in found if math.isfinite(b.nll)]
    for b in drawn:
        axes.plot([b.low, b.high], [b.nll, b.nll], color="#0072b2", linewidth=2.5, solid_capstyle="butt")
    axes.plot([(b.low + b.high) / 2 for b in drawn], [b.nll for b in drawn], color="#0072b2", marker="o", linewidth=0.8)
    missing = f" ({len(found) - len(drawn)} infinite)" if len(drawn) < len(found) else ""
    axes.set_title(f"nll by position{f' · {label}' if label else ''}{missing}", fontsize=10)
    axes.set_xlabel("position in the window (tokens before the predicted one)")
    axes.set_ylabel("mean nll (nats per token)")
    axes.set_xlim(0, max(b.high for b in found))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, metadata={"Software": None})
