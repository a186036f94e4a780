"""How many samples the folder of a cell holds, without reading them as rows: those of shards included, whole or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PIECE = 1 << 20  # bytes read at once


def holds_samples(name: str) -> bool:
    """`samples.jsonl`, and `samples.0of4.jsonl` of a cell that several processes share."""
    return name.startswith("samples.") and name.endswith(".jsonl")


def counted(folder: Path) -> int:
    """Lines of samples in `folder`, which may be missing."""
    total = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        if holds_samples(path.name):
            with path.open("rb") as file:
                while piece := file.read(PIECE):
                    total += piece.count(b"\n")
    return total


def estimated(folder: Path, sizes: Mapping[str, int]) -> tuple[int, bool]:
    """Lines in files of these sizes. Of a large file the first piece is counted: (lines, whether that is an estimate)."""
    total, about = 0, False
    for name, size in sizes.items():
        try:
            with (folder / name).open("rb") as file:
                piece = file.read(PIECE)
        except OSError:
            continue
        lines = piece.count(b"\n")
        if size > len(piece) and lines:
            lines, about = round(lines * size / (piece.rindex(b"\n") + 1)), True
        total += lines
    return total, about
