"""Who works on a cell: `flock` on small files in its folder, released by the system when their owner dies.

    .lock            exclusive: one process has the whole cell; shared: shards are at work
    .lock.<i>of<n>   exclusive: a process has this shard

A lock file may be removed by its owner when the work is over. Who gets a lock therefore looks whether the name still
means the file that was locked, and tries again if not.

On a file system without locks (`ENOLCK`, `EOPNOTSUPP`, `ENOSYS`: some network mounts) the work goes on, with a warning:
then nothing but the sizes of files tells two processes apart (`CellStore.append`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from functools import cache
from pathlib import Path

from harness.disk.whole import disk_error
from harness.errors import UserError

NAME = ".lock"
BRIEF = 0.3  # seconds to wait for a lock: `is_held` takes one for a moment to look, and that must not count as somebody at work
_STEP = 0.02
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES)
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class Busy(UserError):
    """Another process works on it. Nothing is lost: that process goes on, and this one may try again later."""


class Lock:
    """One lock file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self._fd is not None

    def acquire(self, shared: bool = False, patience: float = BRIEF) -> bool:
        """Take it; False if somebody else still has it after `patience` seconds."""
        until = time.monotonic() + patience
        while True:
            fd = self._open()
            if _take(fd, self.file, shared):
                if _is_named(fd, self.file):
                    self._fd = fd
                    return True
                os.close(fd)  # its owner removed it meanwhile: the name means another file now
                continue
            os.close(fd)
            if time.monotonic() >= until:
                return False
            time.sleep(_STEP)

    def _open(self) -> int:
        try:
            return os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644)  # NFS locks exclusively only what can be written
        except OSError as err:
            raise disk_error(self.file, err) from err

    def release(self, remove: bool = False) -> None:
        """Let others have it. `remove`: the file too (only who holds it exclusively may)."""
        if self._fd is None:
            return
        if remove:
            with contextlib.suppress(OSError):  # it may as well stay
                self.file.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = None


def is_held(cell: Path) -> bool:
    """Whether a process works on the cell in this folder now, as far as locks tell; nobody is kept from working.

    False where the file system has no locks.
    """
    return any(_is_taken(file) for file in sorted(cell.glob(f"{NAME}*")))


def locks_work(cell: Path) -> bool:
    """Whether the file system of this folder has locks, as far as the lock files in it tell."""
    for file in cell.glob(f"{NAME}*"):
        try:
            with file.open("rb") as opened:
                fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as err:
            if err.errno in _UNSUPPORTED:
                return False
    return True


def _is_taken(file: Path) -> bool:
    try:
        fd = os.open(file, os.O_RDONLY)
    except OSError:
        return False
    try:
        # shards hold `.lock` together, and each its own file alone: there they are seen
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError as err:
        return err.errno in _TAKEN
    finally:
        os.close(fd)


def _take(fd: int, file: Path, shared: bool) -> bool:
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as err:
        if err.errno in _TAKEN:
            return False
        if err.errno not in _UNSUPPORTED:
            os.close(fd)
            raise disk_error(file, err) from err
        _warn(file.parents[1], os.strerror(err.errno))
    return True


@cache
def _warn(runs: Path, why: str) -> None:
    """Once for each results folder."""
    logging.getLogger(__name__).warning(
        "the file system of %s has no locks (%s): do not start two processes on one cell there", runs, why
    )


def _is_named(fd: int, file: Path) -> bool:
    try:
        ours, named = os.fstat(fd), os.stat(file)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino)
