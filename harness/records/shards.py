"""A cell that several processes compute: each writes its own files, whoever ends last joins them.

    samples.<i>of<n>.jsonl   samples of shard i of n (from 0), in its order of execution
    errors.<i>of<n>.jsonl    samples that raised there
    provenance.<i>of<n>.json its sessions

Reading takes all of them together, and an id that stands in several files (computed twice where two processes did not
see each other's) counts once: samples.jsonl first, then the shards by n and i. Files of another division, left by an
earlier run, are as good as those of this one. Once DONE stands, samples.jsonl is everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from harness.disk.whole import read_json, remedy, remove, rows_of, sync_folder, unreadable, whole_file, whole_rows
from harness.errors import UserError
from harness.records import seal

Shard = tuple[int, int]
_NAME = re.compile(r"\.(\d+)of(\d+)\.jsonl?")
ATTEMPTS = 20  # looks at a folder whose files are being joined by somebody else


def place(folder: Path, name: str, shard: Shard | None) -> Path:
    """The file `name` (such as `samples.jsonl`) of a shard; None: of the cell."""
    stem, dot, suffix = name.partition(".")
    return folder / (f"{stem}.{shard[0]}of{shard[1]}{dot}{suffix}" if shard else name)


def parts(folder: Path, name: str = "samples.jsonl") -> list[Path]:
    """The shards' files beside `name`, by n and i."""
    stem, _, suffix = name.partition(".")
    found = {}
    for file in folder.glob(f"{stem}.*of*.{suffix}"):
        if match := _NAME.fullmatch(file.name, len(stem)):
            found[int(match[2]), int(match[1])] = file
    return [found[key] for key in sorted(found)]


def lines(folder: Path) -> Iterator[tuple[Path, bytes, dict[str, Any]]]:
    """(file, line, row) of every complete line of samples, one at a time; an id can come again from another file."""
    with ExitStack() as stack:
        for file, opened in _opened(folder, stack):
            for line, row in rows_of(opened, file):
                yield file, line, row


def _opened(folder: Path, stack: ExitStack) -> list[tuple[Path, BinaryIO]]:
    """All files with samples, open. Those of shards first: if they are gone, samples.jsonl has their lines by now."""
    for _ in range(ATTEMPTS):
        split = [] if seal.is_there(folder) else parts(folder)
        files: list[tuple[Path, BinaryIO]] = []
        try:
            files = [(file, stack.enter_context(file.open("rb"))) for file in split]
        except FileNotFoundError:
            stack.close()
            continue
        whole = folder / "samples.jsonl"
        try:
            if whole.exists():
                files.insert(0, (whole, stack.enter_context(whole.open("rb"))))
        except OSError as err:
            raise unreadable(whole, err) from err
        return files
    raise UserError(f"{folder}: files with samples come and go. Run the same command again.")


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Every stored sample once."""
    seen: set[str] = set()
    for _, _, row in lines(folder):
        if row["id"] not in seen:
            seen.add(row["id"])
            yield row


def errors(folder: Path) -> list[dict[str, Any]]:
    """The samples that raised and are still missing, each with what it raised last (`id kind message traceback`)."""
    files = [folder / "errors.jsonl", *parts(folder, "errors.jsonl")]
    found = {row["id"]: row for file in files for _, row in whole_rows(file, unique=False)}
    if found:
        for row in rows(folder):
            found.pop(row["id"], None)
    return list(found.values())


def sessions(folder: Path) -> list[dict[str, Any]]:
    """What provenance.json and the shards' own say, in this order (not by time: clocks jump)."""
    files = [folder / "provenance.json", *parts(folder, "provenance.json")]
    return [session for file in files if file.exists() for session in sessions_in(file)]


def sessions_in(file: Path) -> list[dict[str, Any]]:
    """The sessions in one file; what was edited into something else is none."""
    stored = read_json(file).get("sessions")
    return [one for one in stored if isinstance(one, dict)] if isinstance(stored, list) else []


def join(folder: Path, order: Sequence[str]) -> bool:
    """Make samples.jsonl hold one line for each id of `order` and nothing else, then remove the shards' files.

    False, and nothing is changed, if an id is missing or if one more is there that raised elsewhere (whoever computed it
    comes with another order). `UserError` for an id that is neither. The caller has the cell to itself. Killed in
    between, it can be done again.
    """
    with ExitStack() as stack:
        files = _opened(folder, stack)
        index: dict[str, tuple[BinaryIO, int, int]] = {}
        for file, opened in files:
            start = 0
            for line, row in rows_of(opened, file):
                index.setdefault(row["id"], (opened, start, len(line)))
                start += len(line)
        if not index.keys() >= set(order) or _strangers(folder, index.keys() - set(order)):
            return False
        whole, split = folder / "samples.jsonl", [file for file, _ in files if file.name != "samples.jsonl"]
        if list(index) != list(order) or any(Path(opened.name) != whole for opened, _, _ in index.values()):
            with whole_file(whole) as out:
                for opened, start, size in (index[key] for key in order):
                    opened.seek(start)
                    out.write(opened.read(size))
    for file in split:
        remove(file)
    if split:
        sync_folder(folder)
    return True


def _strangers(folder: Path, more: set[str]) -> bool:
    """Whether there are ids beyond those asked for. They can only be samples that raised once."""
    raised = {
        row["id"]
        for file in (folder / "errors.jsonl", *parts(folder, "errors.jsonl"))
        for _, row in (whole_rows(file, unique=False) if more else ())
    }
    if more - raised:
        raise UserError(f"{folder} holds samples that this task does not have ({min(more)!r}). {remedy(folder)}")
    return bool(more)
