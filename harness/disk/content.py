"""sha256 of what stands in a file, read anew unless the file is provably the one that was read before.

Size and modification time prove nothing: archives and container layers set times back. A file counts as the same if its
inode, device, size, both times and a sample of its bytes are: the time of the last change to the inode (`ctime`) cannot
be set by a program, and the sample tells apart images of file systems whose inodes and times are made up. A file that
was changed less than `SETTLED` seconds ago is never remembered, since a second change within one tick of the clock would
leave the same times.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

SETTLED = 2.0  # seconds; the coarsest clock of a file system in use (FAT) ticks so slowly
SAMPLES, PIECE = 64, 1 << 14  # pieces of a file that are looked at, and their bytes: a file of 1 MiB is read whole

_known: dict[Path, tuple[str, str]] = {}  # place -> what stood for the content, its sha256


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex, as they are now."""
    place = path.resolve()

    def recall(now: str) -> str | None:
        before, found = _known.get(place, ("", ""))
        return found if before == now else None

    def keep(now: str, found: str) -> None:
        _known[place] = now, found

    return unless_changed(place, _digest, recall, keep)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unless_changed(
    path: Path, find: Callable[[Path], str], recall: Callable[[str], str | None], keep: Callable[[str, str], None]
) -> str:
    """What `find` says of a file, or said when it was provably the same: `recall` and `keep` are given what stands for its
    content. Nothing is kept of a file that changes meanwhile.
    """
    now = state(path)
    if now is not None and (known := recall(now)) is not None:
        return known
    found = find(path)
    if now is not None and state(path) == now:
        keep(now, found)
    return found


def state(path: Path) -> str | None:
    """What stands for a file's content as long as it is the same; None while it may change unnoticed."""
    with path.open("rb") as file:
        facts = _facts(os.fstat(file.fileno()))
        if facts is None:
            return None
        size, sample = facts[0], hashlib.sha256()
        step = max(PIECE, -(-size // SAMPLES))
        for start in (*range(0, size, step), max(0, size - PIECE)):
            file.seek(start)
            sample.update(file.read(PIECE))
    return "|".join(map(str, (*facts, sample.hexdigest()[:32])))


def _facts(stat: os.stat_result) -> tuple[int, ...] | None:
    """Size, times, inode and device; None if the last change is too fresh to be told from the next one."""
    if time.time() - max(stat.st_mtime, stat.st_ctime) < SETTLED:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev
