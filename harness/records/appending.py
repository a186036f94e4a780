"""A file of JSON lines that only grows, with one writer: a batch is on the disk as a whole, or it is not there."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.disk.whole import disk_error, line_of, sync_folder, whole_rows


class Appended:
    """The writer's end. What it knows of the content, `ids` and `size`, is what stood there at the last `load`, and what
    was appended since.
    """

    def __init__(self, file: Path, unique: bool = True) -> None:
        """`unique`: an id may stand only once."""
        self.file, self.unique = file, unique
        self.size = 0
        self.ids: set[str] | None = None  # None: not read yet
        self._fd: int | None = None

    def load(self) -> None:
        """Read the file. A torn last line stays where it is, and outside of `size`."""
        size, ids = 0, set()
        for line, row in whole_rows(self.file, self.unique):
            size += len(line)
            ids.add(row["id"])
        self.size, self.ids = size, ids

    @property
    def is_torn(self) -> bool:
        """Whether something stands behind the last line that was loaded or appended."""
        return self.length > self.size

    @property
    def length(self) -> int:
        """Bytes on the disk now."""
        try:
            return self.file.stat().st_size
        except FileNotFoundError:
            return 0

    def mend(self) -> None:
        """Cut off what is torn."""
        if self.is_torn:
            self._cut(self.size)

    def _cut(self, size: int) -> None:
        try:
            os.truncate(self.file, size)
        except OSError as err:
            raise disk_error(self.file, err) from err
        self.size = size

    def open(self) -> int:
        """Create the file if it is not there."""
        if self._fd is None:
            new = not self.file.exists()
            try:
                self._fd = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            except OSError as err:
                raise disk_error(self.file, err) from err
            if new:
                sync_folder(self.file.parent)
        return self._fd

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """One write, flushed to the disk before this returns. If the disk is full, nothing of it stays."""
        data, fd = b"".join(map(line_of, rows)), self.open()
        try:
            if os.write(fd, data) < len(data):  # a short write to a file means a full disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        except OSError as err:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, self.size)
            raise disk_error(self.file, err) from err
        self.size += len(data)
        if self.ids is not None:
            self.ids.update(row["id"] for row in rows)

    def close(self) -> None:
        """Let go of the file; `append` opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
