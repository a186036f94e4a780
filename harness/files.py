"""Files that people write and read: examples and outputs, one JSON object per line. Every mistake names its line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records.files import disk_error, line_of, write_bytes


def read_rows(path: Path, what: str = "file") -> list[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file, or of one JSON list, each with its line (or entry) number from 1.

    Blank lines are passed over. `what` names the file in errors ("examples", "outputs").
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"The {what} file {path} does not exist. Check the name, or write it first.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"The {what} file {path} is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    except OSError as error:
        raise UserError(f"The {what} file {path} cannot be read ({error.strerror or error}).") from error
    rows = list(_entries(text, path) if text.lstrip().startswith("[") else _lines(text, path))
    if not rows:
        raise UserError(f"The {what} file {path} is empty: it must hold one JSON object per line.")
    return rows


def _lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Only a line feed ends a line: other separators may stand inside a JSON text."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _object(_parsed(line, f"{path}, line {number}"), f"{path}, line {number}")


def _entries(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, entry in enumerate(_parsed(text, str(path)), start=1):
        yield number, _object(entry, f"{path}, entry {number}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({error}): write one object per line.") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where} holds {type(value).__name__}, not an object: write {{...}} with named keys.")
    return value


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write one object per line, all or nothing, and return the sha256 of the file. Missing folders are made."""
    data = b"".join(line_of(dict(row)) for row in rows)
    make_parent(path)
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def make_parent(path: Path) -> None:
    """The folder that `path` will stand in."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(path, error) from error


def sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
