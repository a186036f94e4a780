"""Models of the zoo, measured as everybody measures them: by `heed run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.cli import main


def measured(results: Path, *overrides: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(model, method, task) -> `metrics.json` of the cells of a run."""
    assert main(["run", *overrides, "efficiency=off", "tracking=disabled", f"results={results}"]) == 0
    files = sorted(results.glob("runs/*/metrics.json"))
    found = {}
    for file in files:
        labels = json.loads((file.parent / "config.json").read_text())["labels"]
        found[labels["model"], labels["method"], labels["task"]] = json.loads(file.read_text())
    return found
