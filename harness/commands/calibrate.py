"""`heed calibrate`: compute what calibrated methods learn about a model, before any run; print where it lies and what is in it.

`heed run` does the same by itself when it meets such a method for the first time on a model.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from harness.config.build import group
from harness.config.compose import compose
from harness.errors import UserError
from harness.models import kept_model
from harness.plan.calibration import calibration
from harness.records import learned
from harness.terminal.printing import Terminal


def make(overrides: list[str]) -> int:
    """One lesson for each model and calibrated method of the overrides."""
    cfg = compose(overrides)
    console, root = Terminal(), Path(cfg.results)
    methods = {label: m for label, m in group(cfg, "method").items() if m.calibration() is not None}
    if not methods:
        raise UserError("None of these methods is calibrated. Name one that is, such as method=iri.")
    with kept_model.kept():
        for model_label, spec in group(cfg, "model").items():
            facts = spec.identity()
            for label, method in methods.items():
                lesson = calibration((label, model_label), spec, method, facts)
                assert lesson is not None
                folder = learned.place(root, learned.lesson_id(lesson))
                fresh = learned.read(folder) is None
                with console.status(f"calibrating {lesson.label}") as shown:
                    found = learned.obtain(lesson, root, shown.update)
                files = [
                    folder / learned.TENSORS,
                    *_curves(dict(found.tensors), folder / learned.TENSORS, lesson.label),
                ]
                said = "calibrated" if fresh else "calibrated before"
                console.print(f"{lesson.label}: {said}; {', '.join(map(str, files))}", soft_wrap=True)
    return 0


def _curves(tensors: dict[str, Any], path: Path, title: str) -> list[Path]:
    """Curves over the layers as csv and png beside the artifact; other tensors stay in the file alone."""
    curves = {k: v.tolist() for k, v in sorted(tensors.items()) if v.dim() == 1 and v.numel() > 1}
    length = max(map(len, curves.values()), default=0)
    curves = {k: v for k, v in curves.items() if len(v) == length}
    if not curves:
        return []
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    table, picture = path.with_suffix(".csv"), path.with_suffix(".png")
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["layer", *curves])
        writer.writerows([i, *(round(v[i], 6) for v in curves.values())] for i in range(length))
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for marker, (name, values) in zip("os^Dvx" * len(curves), curves.items(), strict=False):
        axes.plot(range(length), values, marker=marker, label=name)
    axes.set(title=title, xlabel="layer", ylabel="value")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axhline(0, color="grey", linewidth=0.5)
    axes.legend()
    figure.savefig(picture, dpi=120)
    return [table, picture]
