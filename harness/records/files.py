"""How records reach the disk and return: JSON files that are whole or absent, JSON lines of which the last can tear.

Every error of the operating system becomes a `UserError`: it is the disk, the permissions or an edited file, not a bug.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError

PIECE = 1 << 20  # bytes read at once
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_error(path: Path, err: OSError) -> UserError:
    """The sentence for a write that failed."""
    if err.errno in _FULL:
        return UserError(
            f"disk full while writing {path}. What was finished stays; free space and run the same command again: "
            "it continues where it stopped."
        )
    return UserError(
        f"cannot write {path} ({err.strerror or err}). What was finished stays; repair this (permissions? mounted "
        "read-only?) and run the same command again."
    )


def finite(obj: Any, flagged: list[str], where: str = "") -> Any:
    """A copy of `obj` for strict JSON: NaN and infinities become null, and their dotted keys are added to `flagged`."""
    if isinstance(obj, dict):
        return {str(k): finite(v, flagged, f"{where}.{k}" if where else str(k)) for k, v in obj.items()}
    if isinstance(obj, list | tuple):
        return [finite(v, flagged, f"{where}.{i}" if where else str(i)) for i, v in enumerate(obj)]
    if isinstance(obj, float) and not math.isfinite(obj):
        flagged.append(where)
        return None
    return obj


def write_json(path: Path, obj: dict[str, Any]) -> None:
    """Write `obj` so that after any interruption `path` holds the old content or the new one, never a part.

    JSON has no NaN: a number that is not finite is stored as null and its dotted key is listed under `nonfinite`.
    """
    flagged: list[str] = []
    clean = finite(obj, flagged)
    if flagged:
        clean["nonfinite"] = flagged
    write_bytes(path, (json.dumps(clean, indent=1, sort_keys=True) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` atomically: temporary name, flush to the disk, rename."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as err:
        raise disk_error(path, err) from err
    finally:
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names inside `folder` durable (after creating or renaming a file)."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        pass  # some network file systems cannot flush a folder; the content itself is flushed
    finally:
        os.close(fd)


def read_json(path: Path) -> dict[str, Any]:
    """The object stored in `path`; `UserError` if it is damaged. A missing file is the caller's business."""
    try:
        obj = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as err:
        raise UserError(f"{path} is damaged ({err}). {remedy(path.parent)}") from err
    if not isinstance(obj, dict):
        raise UserError(f"{path} is damaged (it holds no JSON object). {remedy(path.parent)}")
    return obj


def remedy(folder: Path) -> str:
    """What to do about a damaged folder."""
    return f"Restore the file, or delete the folder {folder} and run the same command again: the cell is computed anew."


def digest(data: bytes) -> str:
    """sha256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()


def lines_and_digest(path: Path) -> tuple[int, str]:
    """Line ends in a file and its sha256, read piece by piece: it may be larger than the memory. Missing: as if empty."""
    count, found = 0, hashlib.sha256()
    if path.exists():
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                count += piece.count(b"\n")
                found.update(piece)
    return count, found.hexdigest()


def line_of(row: dict[str, Any]) -> bytes:
    """One row as one line. The same row always gives the same bytes; `ValueError` names what is NaN or infinite."""
    flagged: list[str] = []
    clean = finite(row, flagged)
    if flagged:
        raise ValueError(f"sample {row.get('id')!r}: {', '.join(flagged)} is not finite, as every score must be")
    text = json.dumps(clean, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate in a model's text: only the escaped form can hold it
        return json.dumps(clean, separators=(",", ":")).encode() + b"\n"


def whole_lines(data: bytes) -> int:
    """Number of bytes of `data` up to and including the last line end: what follows was torn by an interruption."""
    return data.rfind(b"\n") + 1


def parse_lines(data: bytes, path: Path, first: int = 1) -> Iterator[dict[str, Any]]:
    """The rows of complete lines; `UserError` with the line number for garbage and for an id that stands twice.

    `first`: the number of the first line of `data` in the file.
    """
    seen: dict[str, int] = {}
    for number, line in enumerate(data.split(b"\n")[:-1], start=first):
        try:
            row = json.loads(line)
            key = row["id"]
        except (ValueError, TypeError, KeyError, RecursionError) as err:
            raise UserError(f"{path}, line {number}: not a sample ({_short(line)}). {remedy(path.parent)}") from err
        if not isinstance(key, str):
            raise UserError(f"{path}, line {number}: the id {key!r} is not a text. {remedy(path.parent)}")
        if key in seen:
            raise UserError(
                f"{path}, line {number}: the id {key!r} already stands in line {seen[key]}. {remedy(path.parent)}"
            )
        seen[key] = number
        yield row


def _short(line: bytes) -> str:
    text = repr(line[:40].decode(errors="replace"))
    return text + ("..." if len(line) > 40 else "")
