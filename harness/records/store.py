"""The append-only store of one cell. After `kill -9` the same command continues, and ends with the same records.

    <root>/runs/<run_id>/
        config.json       what was asked; its part `identity` may never change
        samples.jsonl     one line per finished sample in the order of execution; no times: same run, same bytes
        engaged.json      the proof that the method did something
        cost.json         seconds and tokens of the last session, for estimates
        efficiency.json   speed and memory
        provenance.json   versions, hardware, commit, started and finished times: one entry per session that did work
        metrics.json      the statistics (`summarise`)
        figures/          pictures and tables of the task
        DONE              comes last: number of samples, digests of samples.jsonl and metrics.json

Files other than samples.jsonl are written under a temporary name, flushed and renamed: they are whole or absent. Of
samples.jsonl only the last line can be torn; the next session cuts it off and computes that sample again. A folder that
was edited after DONE, or whose identity is another one, is an error that says so. Reading is in `cells`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records import provenance as origin
from harness.records.cells import SCHEMA, CellRecord, check_done, check_schema, read_cells
from harness.records.files import (
    digest,
    disk_error,
    finite,
    line_of,
    parse_lines,
    read_json,
    remedy,
    whole_lines,
    write_bytes,
    write_json,
)

__all__ = ["SCHEMA", "CellRecord", "CellStore", "read_cells"]


class CellStore:
    """Writes one cell. Opening it creates the folder or checks that the stored identity is this one.

    `config` holds `identity` (compared) and what readers need (`labels`, `task_facts`, ...; the latest command wins).
    `hardware`: facts for provenance.json. Usable as a context manager; closing releases the cell for others.
    """

    def __init__(self, root: Path, run_id: str, config: dict[str, Any], hardware: dict[str, Any] | None = None) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run_id):
            raise ValueError(f"run id {run_id!r} cannot be a folder's name")
        self.root, self.run_id = Path(root), run_id
        self.path = self.root / "runs" / run_id
        self.config: dict[str, Any] = finite(config, [])
        self._hardware = hardware or {}
        self._fd: int | None = None
        self._size = 0
        self._ids: set[str] | None = None  # None: samples.jsonl was not read yet
        self._working = False
        self._open_folder()

    # -- opening -----------------------------------------------------------------------------------------------------

    def _open_folder(self) -> None:
        file = self.path / "config.json"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise disk_error(self.path, err) from err
        stored: dict[str, Any] = {}
        if file.exists():
            stored = read_json(file)
            check_schema(stored, file)
            self._check_identity(stored)
        elif self.samples_file.exists():
            raise UserError(f"{file} is missing although there are samples beside it. {remedy(self.path)}")
        if stored != {"schema": SCHEMA, **self.config}:
            write_json(file, {"schema": SCHEMA, **self.config})

    def _check_identity(self, stored: dict[str, Any]) -> None:
        keys = differing(stored.get("identity", {}), self.config.get("identity", {}))
        if keys:
            raise UserError(
                f"{self.path / 'config.json'} describes another cell: {', '.join(keys)} differ from what is asked "
                f"now. A result never changes its meaning. {remedy(self.path)}"
            )

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def samples_file(self) -> Path:
        """`samples.jsonl` of this cell."""
        return self.path / "samples.jsonl"

    @property
    def figures(self) -> Path:
        """The folder for pictures, created on demand."""
        folder = self.path / "figures"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as err:
            raise disk_error(folder, err) from err
        return folder

    @property
    def done(self) -> bool:
        """True when the cell is finished and nothing was changed since; `UserError` if something was."""
        return check_done(self.path)

    def finished(self) -> dict[str, dict[str, Any]]:
        """Stored rows by id, in the order of execution. A torn last line is cut off, on disk too."""
        data = self._read()
        size = whole_lines(data)
        if size < len(data):
            check_done(self.path)  # a finished folder is not repaired silently
            self._acquire()
            data = self._read()
            size = whole_lines(data)
            self._cut(size)
        rows = {row["id"]: row for row in parse_lines(data[:size], self.samples_file)}
        self._size, self._ids = size, set(rows)
        return rows

    def _read(self) -> bytes:
        try:
            return self.samples_file.read_bytes()
        except FileNotFoundError:
            return b""

    def _cut(self, size: int) -> None:
        try:
            os.truncate(self.samples_file, size)
        except OSError as err:
            raise disk_error(self.samples_file, err) from err

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Store a batch with one write, on the disk before this returns. If the disk is full, nothing of it stays."""
        fd, ids = self._start()
        if (self.path / "DONE").exists():
            raise ValueError(f"cell {self.run_id} is finished: nothing can be added to it")
        batch = [row["id"] for row in rows]
        for i, key in enumerate(batch):
            if not isinstance(key, str) or key in ids or key in batch[:i]:
                raise ValueError(f"sample id {key!r} of cell {self.run_id} is not a text or was stored before")
        data = b"".join(map(line_of, rows))
        try:
            if os.write(fd, data) < len(data):  # a short write to a file means a full disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        except OSError as err:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, self._size)
            raise disk_error(self.samples_file, err) from err
        self._size += len(data)
        ids.update(batch)

    def discard_tail(self, ids: set[str]) -> int:
        """Take out samples that are computed again, because an interruption cut their batch. Returns how many."""
        have = self.finished()
        drop = [key for key in have if key in ids]
        if not drop:
            return 0
        self._start()
        if (self.path / "DONE").exists():
            raise ValueError(f"cell {self.run_id} is finished: nothing can be taken out of it")
        lines = self._read().split(b"\n")[:-1]
        kept = b"".join(line + b"\n" for line, key in zip(lines, have, strict=True) if key not in ids)
        if list(have)[-len(drop) :] == drop:
            self._cut(len(kept))
        else:  # the batches were cut otherwise last time
            write_bytes(self.samples_file, kept)
            self.close()
        self._size, self._ids = len(kept), set(have) - set(drop)
        return len(drop)

    def write_json(self, name: str, obj: dict[str, Any]) -> None:
        """Store a whole file. Numbers that are not finite become null and are listed under `nonfinite`."""
        if name != Path(name).name or (name == "metrics.json" and (self.path / "DONE").exists()):
            raise ValueError(f"{name}: give a plain name; metrics of a finished cell are replaced by `finish`")
        write_json(self.path / name, obj)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Store metrics.json and then DONE. Calling it again replaces the metrics (DONE is taken away meanwhile)."""
        check_done(self.path)
        self._start()
        (self.path / "DONE").unlink(missing_ok=True)
        write_json(self.path / "metrics.json", metrics)
        self._end_session()
        samples = self._read()
        seal = {
            "schema": SCHEMA,
            "n": samples.count(b"\n"),
            "samples_sha256": digest(samples),
            "metrics_sha256": digest((self.path / "metrics.json").read_bytes()),
        }
        write_json(self.path / "DONE", seal)
        self.close()

    def fail(self, kind: str, message: str) -> None:
        """Record that the cell failed and why. It stays unfinished: the next run tries again and keeps its samples."""
        (self.path / "DONE").unlink(missing_ok=True)
        count = self._read().count(b"\n")
        write_json(self.path / "metrics.json", {"n": count, "failure": {"kind": kind, "message": message}})
        self.close()

    # -- one writer at a time, and its session -----------------------------------------------------------------------

    def _acquire(self) -> int:
        """The file to append to, held until `close`; the system releases it when the process dies."""
        if self._fd is not None:
            return self._fd
        try:
            fd = os.open(self.samples_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as err:
            raise disk_error(self.samples_file, err) from err
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise UserError(
                f"another process is working on the cell {self.path}. Wait for it or end it, then run this again."
            ) from None
        except OSError:
            pass  # a file system without locks
        self._fd = fd
        return fd

    def _start(self) -> tuple[int, set[str]]:
        """Begin to work on the cell: the file to append to and the ids that are in it."""
        fd = self._acquire()
        if self._working and self._ids is not None:
            return fd, self._ids
        known, size = self._ids, self._size
        self.finished()
        assert self._ids is not None
        if known is not None and (known, size) != (self._ids, self._size):
            self.close()
            raise UserError(f"another process added samples to {self.path} meanwhile. Run the same command again.")
        if not (self.path / "DONE").exists():
            self._begin_session()
        self._working = True
        return fd, self._ids

    def _begin_session(self) -> None:
        file = self.path / "provenance.json"
        sessions = read_json(file).get("sessions", []) if file.exists() else []
        sessions.append({"started": origin.now(), "finished": None, **origin.collect(), **self._hardware})
        write_json(file, {"sessions": sessions})

    def _end_session(self) -> None:
        file = self.path / "provenance.json"
        stored = read_json(file) if file.exists() else {}
        if stored.get("sessions") and stored["sessions"][-1].get("finished") is None:
            stored["sessions"][-1]["finished"] = origin.now()
            write_json(file, stored)

    def close(self) -> None:
        """Let other processes work on the cell."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd, self._working = None, False

    def __enter__(self) -> CellStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            self.close()


def differing(a: Any, b: Any, where: str = "") -> list[str]:
    """Dotted keys at which two nested values differ.

    >>> differing({"method": {"blocks": 9}, "seed": 0}, {"method": {"blocks": 8}, "seed": 0})
    ['method.blocks']
    """
    if isinstance(a, dict) and isinstance(b, dict):
        inner = (differing(a.get(k), b.get(k), f"{where}.{k}" if where else k) for k in sorted({*a, *b}))
        return [key for keys in inner for key in keys]
    return [] if a == b and type(a) is type(b) else [where or "identity"]
