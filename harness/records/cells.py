"""Reading what the store wrote. A damaged folder among many is reported in its own record and hides no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records import shards
from harness.records.files import appears, digest, lines_and_digest, read_json, remedy, whole_rows

SCHEMA = 1


@dataclass(frozen=True)
class CellRecord:
    """One stored cell. `metrics`, `efficiency` and `provenance` are empty while they are not written.

    `problem` says what is wrong with a damaged folder (one paragraph), and is empty otherwise.
    """

    run_id: str
    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    efficiency: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    done: bool = False
    problem: str = ""

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
    seals = [read_json(cell.path / "DONE") for cell in finished] if len(finished) > 1 else [{}]
    other = next((cell for cell, seal in zip(finished, seals, strict=True) if seal != seals[0]), None)
    if other is None:
        return finished[0]
    return replace(
        finished[0],
        done=False,
        problem=f"{finished[0].path} and {other.path} have the same run id and different content. One was edited, or their code "
        "differs beyond what the run id covers: delete the one that is wrong and run the command again.",
    )


def read_cell(folder: Path) -> CellRecord:
    """The cell in `folder`, damaged or not."""
    parts: dict[str, dict[str, Any]] = {}
    problems = []
    for name in ("config", "metrics", "efficiency", "provenance"):
        try:
            parts[name] = _part(folder / f"{name}.json", required=name == "config")
        except UserError as err:
            problems.append(str(err))
    if sessions := _shard_sessions(folder, problems):
        parts["provenance"] = {**parts.get("provenance", {}), "sessions": sessions}
    done = False
    try:
        done = check_done(folder)
    except UserError as err:
        problems.append(str(err))
    problem = problems[0] if problems else ""
    return CellRecord(run_id=folder.name, path=folder, done=done and not problem, problem=problem, **parts)


def _shard_sessions(folder: Path, problems: list[str]) -> list[dict[str, Any]]:
    """All sessions of a cell whose shards are not joined yet; empty for any other."""
    try:
        return shards.sessions(folder) if shards.parts(folder, "provenance.json") else []
    except UserError as err:
        problems.append(str(err))
        return []


def _part(file: Path, required: bool) -> dict[str, Any]:
    if not file.exists() and not required:
        return {}
    try:
        obj = read_json(file)
    except OSError as err:
        raise UserError(f"{file} cannot be read ({err.strerror or err}). {remedy(file.parent)}") from err
    if required:
        check_schema(obj, file)
    obj.pop("schema", None)
    return obj


def check_schema(obj: dict[str, Any], file: Path) -> None:
    """`UserError` if `file` was written in a layout this version does not know."""
    if obj.get("schema") != SCHEMA:
        raise UserError(
            f"{file} has the layout version {obj.get('schema')!r}; this heed reads version {SCHEMA}. Use the heed that "
            "wrote it, or give another results folder."
        )


def check_done(folder: Path) -> bool:
    """True when DONE stands and still describes samples and metrics; `UserError` naming the file that was changed."""
    seal_file = folder / "DONE"
    if not seal_file.exists():
        return False
    seal = read_json(seal_file)
    check_schema(seal, seal_file)
    samples = folder / "samples.jsonl"
    lines, sha256 = lines_and_digest(samples)
    if lines != seal.get("n") or sha256 != seal.get("samples_sha256"):
        raise _edited(samples, f"it holds {lines} complete lines, and {seal.get('n')} were stored")
    metrics = folder / "metrics.json"
    if not appears(metrics):
        raise _edited(metrics, "it is missing")
    read_json(metrics)
    if digest(metrics.read_bytes()) != seal.get("metrics_sha256"):
        raise _edited(metrics, "its content is not what was stored")
    return True


def _edited(file: Path, what: str) -> UserError:
    return UserError(f"{file} was changed after the cell was finished: {what}. {remedy(file.parent)}")
