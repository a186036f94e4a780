"""DONE, the last file of a cell or of a lesson: the digests of all its other records, so that what was edited afterwards is known.

Sealed are the files of a `Layout` that are there; pictures, locks and what a tracker remembers are no records. What is
added to a finished cell by right (a closer look at speed, a baseline that came later, another label) takes DONE away, writes,
and seals anew. Cells of earlier versions were sealed with two digests only, those of samples.jsonl and metrics.json: these
are checked, and `Seal.old` says that nothing stands for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.disk.whole import appears, lines_and_digest, read_json, remedy, sync_folder, unreadable, write_json
from harness.errors import UserError

NAME = "DONE"
OLD, SCHEMA = 1, 2
RECORDS = (
    "config.json", "samples.jsonl", "errors.jsonl", "engaged.json", "cost.json", "efficiency.json", "provenance.json",
    "metrics.json", "summary.json", "learned.safetensors",
)  # fmt: skip
TABLES = (".csv", ".json", ".jsonl")


@dataclass(frozen=True)
class Layout:
    """Which files of a folder are records: those named, and the tables in some of its folders. `counted`: the file whose
    lines are counted, too; empty: none. `what`: what the folder is, in a word.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    counted: str
    what: str


CELL = Layout(RECORDS, ("figures", "tables"), "samples.jsonl", "cell")


@dataclass(frozen=True)
class Seal:
    """`files`: name -> sha256. `old`: of an earlier version, which did not seal every record."""

    n: int
    files: dict[str, str]
    old: bool = False


def write(folder: Path, layout: Layout = CELL) -> None:
    """Seal what stands in the folder now. Its records are on the disk under their names before the seal is."""
    sync_folder(folder)
    n = _found(folder / layout.counted)[0] if layout.counted else 0
    write_json(folder / NAME, {"schema": SCHEMA, "n": n, "files": _digests(folder, layout)})


def is_there(folder: Path) -> bool:
    """Whether the folder says that it is finished; its content is not looked at."""
    return (folder / NAME).exists()


def check(folder: Path, layout: Layout = CELL) -> Seal | None:
    """The seal of a finished folder whose records are what was sealed; None if it is not finished. `UserError` names the
    file that was changed.
    """
    file = folder / NAME
    if not is_there(folder):
        return None
    seal = _read(file)
    if layout.counted:
        _check_count(folder / layout.counted, seal, layout)
    for name in sorted(seal.files):
        if not appears(folder / name):
            raise _edited(folder, name, "it is missing", layout)
    now = {name: _found(folder / name)[1] for name in seal.files} if seal.old else _digests(folder, layout)
    for name in sorted(now.keys() | seal.files.keys()):
        if name not in seal.files:
            raise _edited(folder, name, "it was added", layout)
        if now.get(name) != seal.files[name]:
            raise _edited(folder, name, "its content is not what was stored", layout)
    return seal


def _check_count(file: Path, seal: Seal, layout: Layout) -> None:
    lines, digest = _found(file)
    if lines != seal.n or digest != seal.files.get(file.name, digest):
        what = f"it holds {lines} complete lines, and {seal.n} were stored"
        raise _edited(file.parent, file.name, what, layout)


def _read(file: Path) -> Seal:
    stored = read_json(file)
    schema = stored.get("schema")
    if schema not in (OLD, SCHEMA):
        raise UserError(
            f"{file} has the layout version {schema!r}; this heed reads versions {OLD} and {SCHEMA}. Use the heed that wrote "
            "it, or give another results folder."
        )
    names = {"samples.jsonl": "samples_sha256", "metrics.json": "metrics_sha256"}
    files: Any = stored.get("files") if schema == SCHEMA else {name: stored.get(key) for name, key in names.items()}
    known = isinstance(files, dict) and all(isinstance(x, str) and "\0" not in name for name, x in files.items())
    if not known or type(stored.get("n")) is not int:
        raise UserError(f"{file} is damaged (it does not say what was stored). {remedy(file.parent)}")
    return Seal(stored["n"], files, schema == OLD)


def _digests(folder: Path, layout: Layout) -> dict[str, str]:
    """Name -> sha256 of every record there is."""
    names = [name for name in layout.files if name == layout.counted or (folder / name).exists()]
    for inner in layout.folders:
        if (folder / inner).is_dir():
            names += sorted(f"{inner}/{file.name}" for file in (folder / inner).iterdir() if file.suffix in TABLES)
    return {name: _found(folder / name)[1] for name in names}


def _found(file: Path) -> tuple[int, str]:
    try:
        return lines_and_digest(file)
    except OSError as error:
        raise unreadable(file, error) from error


def _edited(folder: Path, name: str, what: str, layout: Layout) -> UserError:
    return UserError(f"{folder / name} was changed after the {layout.what} was finished: {what}. {remedy(folder)}")
