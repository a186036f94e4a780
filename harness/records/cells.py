"""Reading what the store wrote: the one reader of records, behind every table, page, comparison and verdict.

A record was written by heed, but may have been edited, cut, moved, or be of another version. Checked are the seal (`seal`), the
run id, which must follow from the stored identity, and the kinds of all values that are used (`checked`). What is wrong with a
cell stands in its `problem`, and none of its content can be used then; other cells are read as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.disk.whole import finite, read_json, remedy, unreadable, whole_rows
from harness.errors import UserError
from harness.identity.run_id import run_id as id_of
from harness.records import checked, seal, shards
from harness.records.earlier import completed

SCHEMA = 1


@dataclass(frozen=True)
class CellRecord:
    """One stored cell. `metrics`, `efficiency` and `provenance` are empty while they are not written.

    `problem` says what is wrong with a damaged folder (one paragraph), and is empty otherwise: then all parts are empty, up to
    the labels where they can be read. `nonfinite`: dotted keys of numbers that are NaN or infinite, and None here.
    `old_seal`: finished by an earlier heed, whose seal stands for samples and metrics alone.
    """

    run_id: str
    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    efficiency: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    done: bool = False
    problem: str = ""
    nonfinite: tuple[str, ...] = ()
    old_seal: bool = False

    def samples(self) -> list[dict[str, Any]]:
        """The rows in the order of execution, read now; of an unfinished cell what all its shards have. A torn last line
        (the cell may be running) is left out.
        """
        return list(self.stream())

    def stream(self) -> Iterator[dict[str, Any]]:
        """`samples()` without holding them all: a cell may have a million."""
        if self.done:
            for _, row in whole_rows(self.path / "samples.jsonl", unique=False):
                yield row
        else:
            yield from shards.rows(self.path)

    def errors(self) -> list[dict[str, Any]]:
        """Samples that raised and are missing: `id kind message traceback`."""
        return shards.errors(self.path)

    @property
    def n_errors(self) -> int:
        """How many samples raised and are missing, read now."""
        return len(self.errors())

    @property
    def labels(self) -> dict[str, str]:
        """`model`, `method` and `task` as shown to people."""
        return self.config.get("labels", {})

    @property
    def figures(self) -> list[Path]:
        """The files in `figures/`, sorted."""
        folder = self.path / "figures"
        return sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []


def read_cells(*roots: Path) -> list[CellRecord]:
    """All cells below `<root>/runs` of every root, sorted by run id. What is wrong with one stands in its
    `CellRecord.problem`; so does a run id that several roots hold with different content. Equal copies count once.
    """
    found: dict[str, list[CellRecord]] = {}
    for root in roots:
        runs = Path(root) / "runs"
        for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
            if folder.is_dir():
                found.setdefault(folder.name, []).append(read_cell(folder))
    return [_one_of(found[key]) for key in sorted(found)]


def _one_of(copies: list[CellRecord]) -> CellRecord:
    """Stored cells with one run id: a finished one; if two are and disagree, none can be believed."""
    finished = [cell for cell in copies if cell.done]
    if not finished:
        return copies[-1]
    seals = [_content(seal.check(cell.path)) for cell in finished]
    other = next((cell for cell, found in zip(finished, seals, strict=True) if found != seals[0]), None)
    if other is None:
        return finished[0]
    return _damaged(
        finished[0].path,
        f"{finished[0].path} and {other.path} have the same run id and different content. One was edited, or their code "
        "differs beyond what the run id covers: delete the one that is wrong and run the command again.",
    )


def _content(found: seal.Seal | None) -> dict[str, str]:
    """The digests of what one run of a cell has in common with the next; times differ."""
    files = found.files if found else {}
    return {name: files[name] for name in ("samples.jsonl", "metrics.json") if name in files}


def read_cell(folder: Path) -> CellRecord:
    """The cell in `folder`, damaged or not."""
    try:
        return _read(folder)
    except UserError as err:
        return _damaged(folder, str(err))
    except OSError as err:
        return _damaged(folder, str(unreadable(folder, err)))


def _read(folder: Path) -> CellRecord:
    flagged: list[str] = []
    config = _part(folder / "config.json", flagged, required=True)
    found = seal.check(folder)
    parts = {name: _part(folder / f"{name}.json", flagged) for name in ("metrics", "efficiency", "provenance")}
    if shards.parts(folder, "provenance.json"):  # not joined yet
        parts["provenance"] |= {"sessions": finite(shards.sessions(folder), [])}
    _checked(folder / "config.json", checked.config, config)
    _checked(folder / "metrics.json", lambda stored: checked.metrics(stored, found is not None), parts["metrics"])
    _checked(folder / "efficiency.json", checked.efficiency, parts["efficiency"])
    _checked(folder / "provenance.json", checked.provenance, parts["provenance"])
    _check_id(folder)
    known = tuple(sorted(set(flagged)))
    return CellRecord(
        folder.name, folder, completed(config), parts["metrics"], parts["efficiency"], parts["provenance"], done=found is not None,
        nonfinite=known, old_seal=bool(found and found.old),
    )  # fmt: skip


def _checked(file: Path, check: Callable[[dict[str, Any]], None], stored: dict[str, Any]) -> None:
    try:
        check(stored)
    except (ValueError, TypeError) as err:
        raise UserError(f"{file} is damaged ({err}). {remedy(file.parent)}") from err


def _check_id(folder: Path) -> None:
    """`UserError` unless the folder is named by the run id of the identity that is stored in it."""
    file = folder / "config.json"
    try:
        run = id_of(read_json(file).get("identity") or {})
    except UnicodeEncodeError:  # half a character, which no identity that was hashed can hold
        run = ""
    if run != folder.resolve().name:
        raise UserError(
            f"{file} is damaged (its identity has the run id {run or '-'}, not that of its folder: one of the two was "
            f"changed). {remedy(folder)}"
        )


def _damaged(folder: Path, problem: str) -> CellRecord:
    """Nothing of it can be used; whose it says that it is may help to find it."""
    try:
        config = _part(folder / "config.json", [], layout=False)
        labels = config.get("labels")
        checked.labels(labels)
    except (UserError, OSError, ValueError):
        return CellRecord(folder.name, folder, problem=problem)
    return CellRecord(folder.name, folder, {"labels": labels}, problem=f"{_is_really(folder, config)}{problem}")


def _is_really(folder: Path, config: dict[str, Any]) -> str:
    """What the run id of the folder stands for, where it can be told: labels may have been edited."""
    identity = config.get("identity")
    try:
        _check_id(folder)
        names = [identity[part]["target"].rpartition(".")[2] for part in ("method", "task")]  # type: ignore[index]
    except (UserError, OSError, LookupError, TypeError, AttributeError):
        return ""
    return f"By its run id it is {' on '.join(names)}. "


def _part(file: Path, flagged: list[str], required: bool = False, layout: bool = True) -> dict[str, Any]:
    """A JSON file with texts that can be shown and numbers that are finite; `{}` if it is not there and need not be."""
    try:
        obj = read_json(file)
    except FileNotFoundError as err:
        if not required:
            return {}
        raise unreadable(file, err) from err
    if required and layout:
        check_schema(obj, file)
    obj.pop("schema", None)
    known = obj.pop("nonfinite", None)
    flagged += map(str, known) if isinstance(known, list) else ()
    clean: dict[str, Any] = shown(finite(obj, flagged))
    return clean


def shown(value: Any) -> Any:
    """A copy in which half characters (lone surrogates, which no output can hold) are replaced by a sign."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {shown(key): shown(inner) for key, inner in value.items()}
    return [shown(inner) for inner in value] if isinstance(value, list) else value


def check_schema(obj: dict[str, Any], file: Path) -> None:
    """`UserError` if `file` was written in a layout this version does not know."""
    if obj.get("schema") != SCHEMA:
        raise UserError(
            f"{file} has the layout version {obj.get('schema')!r}; this heed reads version {SCHEMA}. Use the heed that "
            "wrote it, or give another results folder."
        )


def check_done(folder: Path) -> bool:
    """True when the cell is finished and nothing was changed since; `UserError` naming the file that was."""
    return seal.check(folder) is not None
