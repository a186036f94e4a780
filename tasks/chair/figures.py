"""Where in a caption objects are hallucinated: the first half of its words against the second (`chair.png`, `chair.csv`)."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HALVES = ("first half", "second half")


@dataclass(frozen=True)
class Half:
    """Objects named in one half of all captions; `share` is CHAIR_i within it, 0 where nothing is named."""

    name: str
    nodes: int
    hallucinated: int

    @property
    def share(self) -> float:
        return self.hallucinated / self.nodes if self.nodes else 0.0


def halves(rows: Sequence[Mapping[str, Any]]) -> tuple[Half, Half]:
    """Sums over the rows that have a caption."""
    sums = {
        key: math.fsum(_metric(row, key) for row in rows)
        for key in ("nodes", "hallucinated", "nodes_late", "hallucinated_late")
    }
    nodes, wrong, late, wrong_late = (round(value) for value in sums.values())
    return Half(HALVES[0], nodes - late, wrong - wrong_late), Half(HALVES[1], late, wrong_late)


def _metric(row: Mapping[str, Any], key: str) -> float:
    return float(row["metrics"].get(key) or 0.0)


def write(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write the picture and its numbers; nothing for rows without captions."""
    usable = [row for row in rows if "nodes_late" in row.get("metrics", {})]
    if not usable:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    found = halves(usable)
    label = str(usable[0].get("label") or usable[0].get("method") or "")
    with (folder / "chair.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["words", "nodes", "hallucinated", "share"])
        out.writerows([half.name, half.nodes, half.hallucinated, half.share] for half in found)
    _draw(found, folder / "chair.png", label, len(usable))
    return [folder / "chair.png", folder / "chair.csv"]


def _draw(found: tuple[Half, Half], path: Path, label: str, captions: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.2))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.14, 0.14, 0.82, 0.68))
    bars = axes.bar(
        [half.name for half in found], [100 * half.share for half in found], width=0.5, color=("#00467d", "#b08d2a")
    )
    for bar, half in zip(bars, found, strict=True):
        text = f"{100 * half.share:.1f}\n{half.hallucinated} of {half.nodes}" if half.nodes else "no object\nnamed"
        axes.text(bar.get_x() + bar.get_width() / 2, bar.get_height(), text, ha="center", va="bottom", fontsize=9)
    axes.set_ylim(0, max(5.0, 125 * max(half.share for half in found)))
    axes.set_ylabel("hallucinated objects (%)")
    name = f"chair · {label}" if label else "chair"
    axes.set_title(f"{name}\nCHAIR_i by place in the caption, {captions} captions", fontsize=10)
    figure.savefig(path, dpi=120, metadata={"Software": None})
