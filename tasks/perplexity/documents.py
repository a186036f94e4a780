"""Documents from a text file, from a JSON-lines file or from a folder of both; the built-in essays without any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError, nearest
from harness.text import words

KINDS = (".txt", ".jsonl")


@dataclass(frozen=True)
class Document:
    """A text with the name of its file (and its line, where a file holds several), and where it came from."""

    name: str
    text: str
    source: str


def files(path: Path) -> tuple[Path, ...]:
    """The files that a path names, a folder's in sorted order; `UserError` if there is none."""
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise UserError(
            f"perplexity.path {path} does not exist: name a .txt file, a .jsonl file or a folder of them, or leave it "
            "null for the built-in essays."
        )
    found = tuple(sorted(p for p in path.rglob("*") if p.suffix in KINDS and p.is_file()))
    if not found:
        raise UserError(f"perplexity.path {path} holds no {' or '.join(KINDS)} file: name a folder that does.")
    return found


def load(path: str | None, text_field: str) -> list[Document]:
    """All documents. A file without any text raises `UserError`; an empty record stays, a document without tokens."""
    if path is None:
        text = words.essay()
        return [Document("essay", text, f"builtin essay#{words.digest(text)}")]
    root = Path(path)
    return [document for file in files(root) for document in _read(file, _name(file, root), text_field)]


def _name(file: Path, root: Path) -> str:
    return (file.relative_to(root) if file != root else Path(file.name)).with_suffix("").as_posix()


def _read(file: Path, name: str, text_field: str) -> Iterator[Document]:
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"perplexity.path {file} is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    if not text.strip():
        raise UserError(
            f"perplexity.path {file} is empty: there is no token to predict. Remove it or name another file."
        )
    if file.suffix != ".jsonl":
        yield Document(name, text, file.name)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield Document(f"{name}:{number}", _field(line, file, number, text_field), file.name)


def _field(line: str, file: Path, number: int, text_field: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{file}, line {number} is not JSON ({error}): each line must hold one object.") from error
    if not isinstance(row, dict) or not isinstance(row.get(text_field), str):
        known = row if isinstance(row, dict) else ()
        where = f"{file}, line {number}"
        raise UserError(f"{where} has no text under perplexity.text_field={text_field}: {nearest(text_field, known)}")
    return str(row[text_field])
