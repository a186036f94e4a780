"""What two runs of the same cell must agree in: everything but times and speed, which DONE seals too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILES = ("config.json", "samples.jsonl", "metrics.json", "DONE")
SAME = ("config.json", "samples.jsonl", "metrics.json", "summary.json")


def rows(root: Path) -> dict[str, Any]:
    """Samples in their order, with numbers of five digits: the last ones depend on which samples were computed together."""
    files = sorted(root.glob("runs/*/samples.jsonl"))
    return {file.parent.name: [_rounded(json.loads(line)) for line in file.read_text().splitlines()] for file in files}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def content(file: Path) -> bytes:
    """The bytes of a record; of DONE what does not tell times."""
    if file.name != "DONE":
        return file.read_bytes()
    seal = json.loads(file.read_bytes())
    files = {name: digest for name, digest in seal["files"].items() if name in SAME or name.startswith("figures/")}
    return json.dumps({**seal, "files": files}, sort_keys=True).encode()
