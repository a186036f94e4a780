"""Files that people name for results: examples, scores, verdicts, reports. Written in one way, whole or not at all.

The name is looked at before anything runs (`output`, `output_folder`). A link is followed, so that it stays one. What is
no regular file is written through (a pipe, a terminal, /dev/null), never replaced: renaming a file onto /dev/null
would turn the device of the whole machine into a file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.disk.reading import is_file, user_path
from harness.disk.whole import disk_error, line_of, write_bytes
from harness.errors import UserError

THROUGH = (stat.S_ISFIFO, stat.S_ISCHR)  # written into as they are: pipes, terminals, /dev/null


def output(option: str, name: str, inputs: Iterable[Path] = ()) -> Path:
    """The file that the user named by `option` ("out="), or a `UserError` before anything is computed for it.

    `inputs` are the files that the command reads: writing into one of them would destroy it, by whatever name or link.
    """
    path = _named(option, name, "file")
    found = _stat(path, option, name)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise UserError(f"{option}{name} is a folder. Name a file in it.")
    if found is not None and not stat.S_ISREG(found.st_mode) and not any(is_(found.st_mode) for is_ in THROUGH):
        raise UserError(f"{option}{name} is neither a file nor a pipe, so nothing can be written into it.")
    if found is not None and stat.S_ISREG(found.st_mode):
        for other in inputs:
            if is_file(other) and os.path.samestat(other.stat(), found):
                raise UserError(
                    f"{option}{name} is the same file as {other}, which is read here: writing would destroy it. Name "
                    "another file."
                )
    return path


def output_folder(option: str, name: str) -> Path:
    """The folder that the user named by `option`, existing or not."""
    path = _named(option, name, "folder")
    found = _stat(path, option, name)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise UserError(f"{option}{name} is a file. Name a folder, which is made where it does not exist.")
    return path


def _named(option: str, name: str, kind: str) -> Path:
    if not name.strip():
        raise UserError(f"{option} is empty (a variable that is not set?). Name a {kind}: {option}{kind.upper()}.")
    return user_path(name)


def _stat(path: Path, option: str, name: str) -> os.stat_result | None:
    """What stands there, links followed; None for nothing yet."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # too long, a loop of links, a zero byte, a file among its folders
        long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        shown = f"{name[:60]}..." if len(name) > 60 else name
        why = "the name is longer than the system allows" if long else getattr(error, "strerror", None) or str(error)
        raise UserError(f"{option}{shown} cannot be written ({why}). Name another file.") from error


def write_output(path: Path, data: bytes) -> None:
    """Write what `output` allowed: a file is replaced whole, its links stay; anything else is written through."""
    try:
        target = path.resolve()
        found = path.stat() if path.exists() else None
        if found is not None and (number := _own_stream(found)) is not None:
            _through(number, data)
        elif found is not None and not stat.S_ISREG(found.st_mode):
            _into_device(path, data)
        else:
            make_parent(target)
            write_bytes(target, data)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        if isinstance(error, BrokenPipeError):
            raise
        raise disk_error(path, error if isinstance(error, OSError) else OSError(str(error))) from error


def _own_stream(found: os.stat_result) -> int | None:
    """The descriptor of our stdout or stderr if the file is it: a file that the shell redirects to stays that file."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if os.path.samestat(os.fstat(number), found):
                stream.flush()
                return number
        except OSError:  # closed
            continue
    return None


def _into_device(path: Path, data: bytes) -> None:
    """Without waiting: a pipe that nobody reads would hold the command for ever."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise UserError(f"{path} is a pipe that nobody reads: start its reader first, or name a file.") from error
        raise
    try:
        os.set_blocking(number, True)
        _through(number, data)
    finally:
        os.close(number)


def _through(number: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(number, left) :]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write one object per line, all or nothing, and return the sha256 of the file. Missing folders are made."""
    data = b"".join(line_of(dict(row)) for row in rows)
    write_output(path, data)
    return hashlib.sha256(data).hexdigest()


def make_parent(path: Path) -> None:
    """The folder that `path` will stand in."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(path, error) from error
