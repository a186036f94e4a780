"""Whether two results folders hold the same samples, byte for byte: `python benchmarks/same_samples.py OLD NEW`.

Cells are paired by their labels and samples by their ids, so that run ids may differ (another source has another id). Compared
is what was asked, said and scored, and what the method read of the keys. Exit code 1 if anything differs or is missing.

Used before and after a change of the engine that should move no number, on the folders of the reference suites (`make reference`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FIELDS = (
    "asked_sha256", "prompt_sha256", "references", "text", "parsed", "metrics", "flags", "n_prompt_tokens", "n_new_tokens",
    "finish", "usage", "idle",
)  # fmt: skip
Cell = tuple[str, ...]  # its labels


def stored(root: Path) -> dict[Cell, dict[str, dict[str, Any]]]:
    """Labels -> id of a sample -> its row."""
    found = {}
    for config in sorted(root.glob("runs/*/config.json")):
        labels = json.loads(config.read_text(encoding="utf-8"))["labels"]
        lines = (config.parent / "samples.jsonl").read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line]
        found[tuple(labels.values())] = {row["id"]: row for row in rows}
    return found


def written(row: dict[str, Any], field: str) -> str:
    return json.dumps(row.get(field), sort_keys=True, ensure_ascii=False)


def main(old: str, new: str) -> int:
    before, after = stored(Path(old)), stored(Path(new))
    different, n = 0, 0
    for cell in sorted(before.keys() | after.keys()):
        a, b = before.get(cell, {}), after.get(cell, {})
        both = a.keys() & b.keys()
        n += len(both)
        moved = {f: sum(written(a[i], f) != written(b[i], f) for i in both) for f in FIELDS}
        told = [f"{count} {field}" for field, count in moved.items() if count]
        told += [f"{len(a.keys() ^ b.keys())} samples on one side only"] if a.keys() != b.keys() else []
        different += bool(told)
        print(f"{' / '.join(cell)}: {len(both)} samples, {', '.join(told) or 'equal'}")
    print(f"{n} samples of {len(before.keys() | after.keys())} cells; {different} cells differ")
    return 1 if different or not n else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
