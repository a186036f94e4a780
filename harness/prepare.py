"""A task's examples from disk: built once, read back when nothing that they depend on has changed.

One file per task, parameters and tokenizer. Every line is an example or a skipped one; the last line holds the sha256
of all lines before it, so that a torn or edited file is noticed and built anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from harness.contracts.task import Example, Skipped, Task, Tokens
from harness.identity import canonical, file_digest, sha256
from harness.records.files import write_bytes

VERSION = 1  # raise it when the layout of the file changes
Item = Example | Skipped


def prepared(task: Task, tokens: Tokens, root: Path | None, source: str = "") -> list[Item]:
    """The examples of `task` for a tokenizer, from the cache in `root` (None: no cache).

    `source` stands for everything else that decides the examples, such as the digest of the task's code. Examples come
    back as they are stored (tuples in `meta` are lists), whether they were built now or read.
    """
    if root is None:
        return _parse(_lines(task.examples(tokens)))
    path = root / f"{cache_key(task, tokens, source)}.jsonl"
    kept = _read(path)
    if kept is not None:
        return _parse(kept)
    lines = _lines(task.examples(tokens))
    _write(path, lines)
    return _parse(lines)


def cache_key(task: Task, tokens: Tokens, source: str = "") -> str:
    """32 hex digits over the class of the task, its fields, the content of its files, its other material, `source`
    and the tokenizer."""
    cls = type(task)
    facts = {
        "version": VERSION,
        "task": f"{cls.__module__}.{cls.__qualname__}",
        "fields": {f.name: getattr(task, f.name) for f in fields(task)},
        "files": [file_digest_now(path) for path in task.data_files()],
        "provenance": dict(task.provenance()),
        "source": source,
        "tokens": tokens.digest,
    }
    return sha256(canonical(facts))[:32]


def file_digest_now(path: Path) -> str:
    """The digest of a file's present content: not remembered from an earlier call, because files change."""
    return file_digest.__wrapped__(path)


def _lines(items: Iterable[Item]) -> list[str]:
    return [json.dumps(_row(item), ensure_ascii=False, separators=(",", ":")) for item in items]


def _row(item: Item) -> dict[str, Any]:
    if isinstance(item, Example):
        return {"example": item.to_row()}
    return {"skipped": {"id": item.id, "reason": item.reason, "meta": dict(item.meta)}}


def _parse(lines: Iterable[str]) -> list[Item]:
    rows = (json.loads(line) for line in lines)
    return [Example.from_row(row["example"]) if "example" in row else Skipped(**row["skipped"]) for row in rows]


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seal = json.dumps({"sha256": _digest(lines), "n": len(lines)})
    write_bytes(path, ("\n".join([*lines, seal]) + "\n").encode("utf-8"))


def _read(path: Path) -> list[str] | None:
    """The lines of a whole, unedited file; None if it is absent or damaged."""
    try:
        *lines, seal = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
        if json.loads(seal) == {"sha256": _digest(lines), "n": len(lines)}:
            return lines
    except FileNotFoundError:
        return None
    except ValueError:  # not UTF-8, or no JSON in the last line
        pass
    logging.getLogger(__name__).warning("prepared examples in %s are damaged; they are built anew", path)
    return None


def _digest(lines: list[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8"))
        digest.update(b"\n")
    return digest.hexdigest()
