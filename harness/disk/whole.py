"""How records reach the disk and return: JSON files that are whole or absent, JSON lines of which the last can tear.

Every error of the operating system becomes a `UserError`: it is the disk, the permissions or an edited file, not a bug.

Network file systems (NFS and its kind) answer less reliably than a local disk. What is handled here: a rename that was
done although the answer says it was not (`replace`), a name that shows up late (`appears`), folders that cannot be
flushed (`sync_folder`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from harness.disk.reading import too_deep
from harness.errors import UserError

PIECE = 1 << 20  # bytes read at once
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOST_ANSWER = (errno.ENOENT, errno.ESTALE)  # a rename that was sent twice: the second finds nothing to rename
_LATE = (0.05, 0.2, 0.25)  # seconds between looks for a name that must be there


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


def write_json(path: Path, obj: dict[str, Any], named: bool = True) -> None:
    """Write `obj` so that after any interruption `path` holds the old content or the new one, never a part.

    JSON has no NaN: a number that is not finite is stored as null and its dotted key is listed under `nonfinite`. `named`:
    see `whole_file`.
    """
    write_bytes(path, json_bytes(obj), named)


def json_bytes(obj: dict[str, Any]) -> bytes:
    """The content of `write_json`."""
    flagged: list[str] = []
    clean = finite(obj, flagged)
    if flagged:
        clean["nonfinite"] = flagged
    return (json.dumps(clean, indent=1, sort_keys=True) + "\n").encode()


def write_bytes(path: Path, data: bytes, named: bool = True) -> None:
    """Replace `path` by `data` atomically. `named`: see `whole_file`.

    Twice, if the temporary file vanished: who ends a cell clears away what killed processes left, and cannot tell theirs
    from ours.
    """
    try:
        _write_whole(path, data, named)
    except UserError as err:
        if not isinstance(err.__cause__, FileNotFoundError) or not path.parent.exists():
            raise
        _write_whole(path, data, named)


def _write_whole(path: Path, data: bytes, named: bool) -> None:
    with whole_file(path, named) as file:
        file.write(data)


@contextlib.contextmanager
def whole_file(path: Path, named: bool = True) -> Iterator[BinaryIO]:
    """A file to write into that becomes `path` at the end, on the disk and atomically; after an exception it is gone.

    `named` False: when the power fails `path` may still hold the old content, or nothing, until its folder is flushed
    (`sync_folder`); for several files that only count when the last of them is there.
    """
    part = _own_part(path)
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace(part, path)
        if named:
            sync_folder(path.parent)
    except OSError as err:
        raise disk_error(path, err) from err
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _own_part(path: Path) -> Path:
    """A temporary name beside `path` that is this process's own on every machine that sees the folder."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")


def replace(part: Path, path: Path) -> None:
    """`os.replace`, judged by what it did: an NFS client that lost the answer asks again and hears that `part` is gone."""
    made = os.stat(part)
    try:
        os.replace(part, path)
    except OSError as err:
        if err.errno not in _LOST_ANSWER or not _stands(path, made):
            raise


def _stands(path: Path, made: os.stat_result) -> bool:
    try:
        there = os.stat(path)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (made.st_dev, made.st_ino)


def appears(path: Path) -> bool:
    """Whether a file is there whose neighbours prove that it was written: on another machine its name may come late."""
    for wait in (*_LATE, None):
        if path.exists():
            return True
        if wait is not None:
            time.sleep(wait)
    return False


def remove(file: Path) -> None:
    """Delete a file that may be there."""
    try:
        file.unlink(missing_ok=True)
    except OSError as err:
        raise disk_error(file, err) from err


def sync_folder(folder: Path) -> None:
    """Make the names inside `folder` durable (after creating or renaming a file)."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        pass  # some network file systems cannot flush a folder; the content itself is flushed
    finally:
        os.close(fd)


def create_json(path: Path, obj: dict[str, Any]) -> None:
    """Write `obj` unless `path` is there, or comes to be there meanwhile: what stands there stays."""
    part = _own_part(path)
    write_json(part, obj, named=False)
    try:
        os.link(part, path)
        sync_folder(path.parent)
    except FileExistsError:
        pass
    except OSError as err:
        if path.exists():  # who ended the cell cleared our file away, and has written its own
            return
        try:  # a file system without links
            replace(part, path)
            sync_folder(path.parent)
        except OSError:
            raise disk_error(path, err) from err
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def unreadable(path: Path, err: OSError) -> UserError:
    """The sentence for a record that the operating system does not give."""
    return UserError(f"{path} cannot be read ({err.strerror or err}). {remedy(path.parent)}")


def read_json(path: Path) -> dict[str, Any]:
    """The object stored in `path`; `UserError` if it is damaged. A missing file is the caller's business."""
    try:
        obj = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as err:
        raise unreadable(path, err) from err
    except (ValueError, RecursionError) as err:
        raise UserError(f"{path} is damaged ({err}). {remedy(path.parent)}") from err
    if too_deep(obj):
        raise UserError(f"{path} is damaged (it nests too deep). {remedy(path.parent)}")
    if not isinstance(obj, dict):
        raise UserError(f"{path} is damaged (it holds no JSON object). {remedy(path.parent)}")
    return obj


def remedy(folder: Path) -> str:
    """What to do about a damaged folder."""
    return f"Restore the file, or delete the folder {folder} and run the same command again: it is made anew."


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


def whole_rows(path: Path, unique: bool = True) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Every complete line of a file with its row, one at a time. A torn last line is left out; a missing file has none.

    `UserError` with the line number for garbage and, if `unique`, for an id that stands twice.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        yield from rows_of(file, path, unique)


def rows_of(file: BinaryIO, path: Path, unique: bool = True) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """`whole_rows` of a file that is open already."""
    seen: dict[str, int] = {}
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            return  # torn by an interruption, or being written now
        row = _row(line, path, number)
        first = seen.setdefault(row["id"], number) if unique else number
        if first != number:
            raise UserError(
                f"{path}, line {number}: the id {row['id']!r} already stands in line {first}. {remedy(path.parent)}"
            )
        yield line, row


def _row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
        key = row["id"]
    except (ValueError, TypeError, KeyError, RecursionError) as err:
        raise UserError(f"{path}, line {number}: not a sample ({_short(line)}). {remedy(path.parent)}") from err
    if not isinstance(key, str):
        raise UserError(f"{path}, line {number}: the id {key!r} is not a text. {remedy(path.parent)}")
    return row


def _short(line: bytes) -> str:
    line = line.rstrip(b"\n")
    text = repr(line[:40].decode(errors="replace"))
    return text + ("..." if len(line) > 40 else "")
