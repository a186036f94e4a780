"""Documents from a text file, from a JSON-lines file or from a folder of both; the built-in essays without any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.disk.reading import is_file, is_folder, read_entries, read_text
from harness.errors import UserError, nearest
from zoo.material.text import words

KINDS = (".txt", ".jsonl")


@dataclass(frozen=True)
class Document:
    """A text with the name of its file (and its line, where a file holds several), and where it came from."""

    name: str
    text: str
    source: str


def files(path: Path) -> tuple[Path, ...]:
    """The files that a path names, a folder's in sorted order; `UserError` if there is none."""
    if is_file(path):
        return (path,)
    if not is_folder(path):
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
    text = read_text(file, "file of perplexity.path")
    if not text.strip():
        raise UserError(
            f"perplexity.path {file} is empty: there is no token to predict. Remove it or name another file."
        )
    if file.suffix != ".jsonl":
        yield Document(name, text, file.name)
        return
    for entry in read_entries(file, "file of perplexity.path"):
        if text_field not in entry:
            raise UserError(
                f"{entry.where} has no text under perplexity.text_field={text_field}: {nearest(text_field, entry.values)}"
            )
        yield Document(f"{name}:{entry.at}", entry.text(text_field, blank=True), file.name)
