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
from harness.plan.cells import method_identity, task_identity
from harness.running import calibrate
from harness.terminal.printing import Terminal


def make(overrides: list[str]) -> int:
    """One artifact for each model and calibrated method of the overrides."""
    cfg = compose(overrides)
    console, root = Terminal(), Path(cfg.results)
    methods = {label: m for label, m in group(cfg, "method").items() if m.calibration() is not None}
    if not methods:
        raise UserError("None of these methods is calibrated. Name one that is, such as method=iri.")
    for model_label, spec in group(cfg, "model").items():
        view, facts = spec.load(), spec.identity()
        for label, method in methods.items():
            task = calibrate.task_of(method)
            about = calibrate.identity_of(
                facts, method, method_identity(method), task_identity(task) if task is not None else None
            )
            path = calibrate.place(method, about, root)
            fresh = not path.exists()
            with console.status(f"calibrating {label} on {model_label}"):
                tensors = calibrate.artifact(method, about, view, root)
            files = [path, *_curves(tensors, path, f"{label} on {model_label}")]
            console.print(
                f"{label} on {model_label}: {'calibrated' if fresh else 'calibrated before'}; "
                f"{', '.join(map(str, files))}",
                soft_wrap=True,
            )  # fmt: skip
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
