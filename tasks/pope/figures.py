"""The POPE report: accuracy, F1 and share of yes for each question set, as numbers (csv) and as a picture (png)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.pope.metrics import METRICS, RATIOS
from tasks.pope.questions import OTHER, SPLITS

SHOWN = (("accuracy", "accuracy"), ("f1", "F1"), ("yes_ratio", "share of yes"))
COLOURS = ("#1b4f72", "#d68910", "#7f8c8d")  # told apart in grey too; the legend names them


@dataclass(frozen=True)
class Bar:
    """A number in [0, 1] with its interval (None: no interval). `n`: questions of the set."""

    split: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int


def bars(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """Every metric of `RATIOS` for every set that the rows have, and for their mean."""
    from dataclasses import replace

    from harness.analysis.statistics import aggregate

    metrics = [row["metrics"] for row in rows]
    clusters = [str(row.get("cluster", "")) for row in rows]
    asked = {s: round(sum(m.get(f"asked@{s}", 0.0) for m in metrics)) for s in (*SPLITS, OTHER)}
    present = [split for split, n in asked.items() if n]
    groups = [(split, (split,)) for split in present] + ([("mean", tuple(present))] if len(present) > 1 else [])
    found = []
    for label, splits in groups:
        for metric in METRICS[: len(RATIOS)]:
            got = aggregate(replace(metric, macro=splits), metrics, clusters)
            if got.value is not None:
                total = sum(asked[s] for s in splits)
                found.append(Bar(label, metric.name, got.value, got.low, got.high, total))
    return found


def write(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write `pope.png` and `pope.csv`; nothing for rows without counts."""
    usable = [row for row in rows if any(key.startswith("asked@") for key in row.get("metrics", ()))]
    if not usable:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    found = bars(usable)
    with (folder / "pope.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["split", "metric", "value", "low", "high", "questions"])
        out.writerows([b.split, b.metric, b.value, b.low, b.high, b.n] for b in found)
    label = str(usable[0].get("label") or usable[0].get("method") or "")
    _draw(found, folder / "pope.png", f"POPE · {label}" if label else "POPE")
    return [folder / "pope.png", folder / "pope.csv"]


def _draw(found: Sequence[Bar], path: Path, title: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    splits = list(dict.fromkeys(bar.split for bar in found))
    width, height = 2.2 + 1.1 * len(splits), 3.2
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    # fixed margins in inches: an automatic layout draws everything a second time
    axes = figure.add_axes((0.6 / width, 0.62 / height, 1 - 0.7 / width, 1 - 1.2 / height))
    for i, ((name, label), colour) in enumerate(zip(SHOWN, COLOURS, strict=True)):
        chosen = [bar for bar in found if bar.metric == name]
        at = [splits.index(bar.split) + (i - 1) * 0.27 for bar in chosen]
        values = [100 * bar.value for bar in chosen]
        below = [100 * (b.value - b.low) if b.low is not None else 0.0 for b in chosen]
        above = [100 * (b.high - b.value) if b.high is not None else 0.0 for b in chosen]
        axes.bar(at, values, 0.25, color=colour, label=label, yerr=[below, above], error_kw={"lw": 0.9, "capsize": 2})
    n = {bar.split: bar.n for bar in found}
    axes.set_xticks(range(len(splits)), [f"{split}\nn={n[split]}" for split in splits], fontsize=8)
    axes.axhline(50, color="black", lw=0.6, ls=":")
    axes.set_ylim(0, 102)  # the cap of an interval that ends at 100 stays visible
    axes.set_ylabel("percent")
    axes.set_title(title, fontsize=10, loc="left", pad=20)
    axes.legend(ncols=3, fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.1)
    figure.savefig(path, dpi=120, metadata={"Software": None})
