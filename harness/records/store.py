"""The append-only store of one cell. After `kill -9` the same command continues, and ends with the same records.

    <root>/runs/<run_id>/
        config.json       what was asked; its part `identity` may never change
        samples.jsonl     one line per finished sample in the order of execution; no times: same run, same bytes
        errors.jsonl      one line per sample that raised and is missing
        engaged.json      the proof that the method did something
        cost.json         seconds and tokens of the last session, for estimates
        efficiency.json   speed and memory
        provenance.json   versions, hardware, commit, started and finished times: one entry per session that did work
        metrics.json      the statistics (`summarise`)
        summary.json      what the task's own program makes of all samples, where it has one (`Task.summary`)
        figures/          pictures and tables of the task, pictures of a probe's tables
        tables/           what a probe concluded, and the rows of all its examples (`tables`)
        learned.safetensors   tensors that a probe concluded
        DONE              comes last: number of samples, digests of all records (`seal`)

Files other than samples.jsonl are written under a temporary name, flushed and renamed: they are whole or absent. Of
samples.jsonl only the last line can be torn; the next session cuts it off and computes that sample again. A folder that
was edited after DONE, or whose identity is another one, is an error that says so. While a cell is computed there are
lock files (`locks`), and, if several processes share it, files of each (`shards`). Reading is in `cells`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.disk.locks import NAME as LOCK
from harness.disk.locks import Busy, Lock, is_held
from harness.disk.whole import (
    disk_error,
    finite,
    line_of,
    remove,
    write_bytes,
    write_json,
)
from harness.records import seal, shards
from harness.records.appending import Appended
from harness.records.cells import SCHEMA, CellRecord, check_done, read_cells
from harness.records.described import Described
from harness.records.sessions import Session
from harness.records.stored import counted

__all__ = ["SCHEMA", "Busy", "CellRecord", "CellStore", "is_held", "read_cells"]

PATIENCE = 0.5  # seconds for others to let go of a cell whose samples are all there


class CellStore:
    """Writes one cell. Opening it creates the folder or checks that the stored identity is this one.

    `config` holds `identity` (compared) and what readers need (`labels`, `task_facts`, ...; the latest command wins).
    `hardware`: facts for provenance.json. `shard`: (i, n), this process writes the files of the i-th of n shards, and
    others may work on the rest meanwhile; None: it has the cell to itself. Usable as a context manager; closing releases
    the cell for others. Whatever writes takes the cell (`claim`), and raises `Busy` if another process has it.
    """

    def __init__(
        self,
        root: Path,
        run_id: str,
        config: dict[str, Any],
        hardware: dict[str, Any] | None = None,
        shard: tuple[int, int] | None = None,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run_id):
            raise ValueError(f"run id {run_id!r} cannot be a folder's name")
        if shard is not None and not 0 <= shard[0] < shard[1]:
            raise ValueError(f"shard {shard} is not (i, n) with 0 <= i < n")
        self.root, self.run_id, self.shard = Path(root), run_id, shard
        self.path = self.root / "runs" / run_id
        self.config: dict[str, Any] = finite(config, [])
        self._whole = Lock(self.path / LOCK)
        self._part = Lock(self.path / f"{LOCK}.{shard[0]}of{shard[1]}") if shard else None
        self._own = Appended(shards.place(self.path, "samples.jsonl", shard))  # the file that this process appends to
        self._raised = Appended(shards.place(self.path, "errors.jsonl", shard), unique=False)
        self._session = Session(self.path, shard, hardware or {})
        self._described = Described(self.path, self.config)
        self._claimed = False  # the locks are held, and `_own` was read under them
        self._was_open = False  # the cell was found unfinished when `done` was last looked up
        self._open_folder()

    # -- opening -----------------------------------------------------------------------------------------------------

    def _open_folder(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise disk_error(self.path, err) from err
        self._described.open(has_samples=self.samples_file.exists() or bool(shards.parts(self.path)))
        if self._described.is_outdated and self._is_finished() and self._whole.acquire():
            self._seal_again(self._described.write)

    def _seal_again(self, change: Callable[[], None]) -> None:
        """Change records of a finished cell that this process holds. Killed in between, the cell is unfinished."""
        check_done(self.path)
        remove(self.path / seal.NAME)
        change()
        seal.write(self.path)
        self._remove_locks()

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
        done = check_done(self.path)
        self._was_open = not done
        return done

    @property
    def is_split(self) -> bool:
        """Whether samples stand, or may come to stand, in more files than samples.jsonl: then `merge` before `finish`."""
        return self.shard is not None or bool(shards.parts(self.path))

    def finished(self) -> dict[str, dict[str, Any]]:
        """Stored rows by id, in the order of execution, those of all shards included. A torn last line is left out, and
        cut off on disk if it is this process's own.
        """
        rows: dict[str, dict[str, Any]] = {}
        ids: set[str] = set()
        size = 0
        for file, line, row in shards.lines(self.path):
            rows.setdefault(row["id"], row)
            if file == self._own.file:
                ids.add(row["id"])
                size += len(line)
        counts = self._own.file == self.samples_file or not self._is_finished()
        if counts and not self._claimed and self._own.length > size:
            check_done(self.path)  # a finished folder is not repaired silently
            self._claim()
            return self.finished()
        self._own.ids, self._own.size = ids, size
        return rows

    # -- writing -----------------------------------------------------------------------------------------------------

    def claim(self) -> bool:
        """Take the cell, or the shard, for this process until `close`; False if the cell is finished by now.

        `Busy` if another process has it. Writing claims by itself; claiming before the model is loaded spares the loser
        the work.
        """
        self._lock()
        if self._is_finished():
            self._withdraw()
            return False
        self._claim()
        return True

    def reopen(self) -> None:
        """Take DONE from a finished cell: samples that it was finished without are wanted after all."""
        self._lock()
        if check_done(self.path):
            remove(self.path / seal.NAME)

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Store a batch with one write, on the disk before this returns. If the disk is full, nothing of it stays."""
        ids = self._start()
        batch = [row["id"] for row in rows]
        for i, key in enumerate(batch):
            if not isinstance(key, str) or key in ids or key in batch[:i]:
                raise ValueError(f"sample id {key!r} of cell {self.run_id} is not a text or was stored before")
        if self._own.is_torn:  # only without locks
            self.close()
            raise Busy(
                f"another process wrote to {self._own.file} at the same time. End one, and run the same command again."
            )
        self._own.append(rows)

    def merge(self, order: Sequence[str]) -> bool:
        """Join what all shards have into samples.jsonl, one line for each id of `order`: the bytes that one process would
        have written. Afterwards this process has the cell to itself, to `finish` it.

        False: something is missing and others are at work, or the cell is finished. A shard's part in the cell is over
        then: the store is closed. Every shard calls this last; the last one finds all there, and True.
        """
        have = {row["id"] for row in shards.rows(self.path)}
        if self.shard is not None:
            self._session.end()  # as long as the place in the cell is ours
        if not (have.issuperset(order) and self._take_whole() and not self._is_finished() and self._joined(order)):
            if self._is_finished():
                self._withdraw()
            elif self.shard is not None:
                self.close()
            return False
        return True

    def _joined(self, order: Sequence[str]) -> bool:
        self._own.close()
        if not shards.join(self.path, order):
            return False
        self._own.file = self.samples_file
        self._own.load()
        self._claimed = True
        return True

    def write_json(self, name: str, obj: dict[str, Any]) -> None:
        """Store a whole file. Numbers that are not finite become null and are listed under `nonfinite`."""
        if name != Path(name).name or (name == "metrics.json" and self._is_finished()):
            raise ValueError(f"{name}: give a plain name; metrics of a finished cell are replaced by `finish`")
        if not self._is_finished():
            write_json(self.path / name, obj, named=False)  # it counts with the seal, which flushes the names
        elif self._take_whole():
            self._seal_again(lambda: write_json(self.path / name, obj))
        else:
            raise self._busy(self.path)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Store metrics.json and then DONE. Calling it again replaces the metrics (DONE is taken away meanwhile)."""
        finished = check_done(self.path)
        if not finished and shards.parts(self.path):
            raise ValueError(f"cell {self.run_id} has samples of several shards: call `merge` first")
        if not self._take_whole():
            raise self._busy(self.path)
        if self._own.file != self.samples_file:
            self._own = Appended(self.samples_file)
            self._claimed = False
        self._claim()
        if not finished:
            self._session.begin()
            self._own.open()
        self._clean()
        remove(self.path / seal.NAME)
        self._described.write()
        write_json(self.path / "metrics.json", metrics, named=False)
        self._session.settle()
        self._settle_errors()
        seal.write(self.path)
        self._remove_locks()
        self.close()

    def fail(self, kind: str, message: str) -> bool:
        """Record that the cell failed and why. It stays unfinished: the next run tries again and keeps its samples.

        False, and nothing is recorded, if another process has the cell or has finished it: it did not fail there.
        """
        try:
            self._lock()
        except Busy:
            return False
        if self._is_finished():
            self._withdraw()
            return False
        count = counted(self.path)
        write_json(self.path / "metrics.json", {"n": count, "failure": {"kind": kind, "message": message}})
        self._session.end()
        self.close()
        return True

    # -- samples that raised -----------------------------------------------------------------------------------------

    def record_errors(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add samples that raised, `id kind message traceback` each, to errors.jsonl (or the shard's)."""
        self._start()
        if self._raised.ids is None:
            self._raised.load()
            self._raised.mend()
        self._raised.append(rows)

    def errors(self) -> list[dict[str, Any]]:
        """Samples that raised, in whatever shard, and are still missing."""
        return shards.errors(self.path)

    def clear_errors(self) -> None:
        """Forget what raised (in this shard, if there are several): it is about to be tried again."""
        self._claim()
        self._raised.close()
        self._raised.ids = None
        for file in (self._raised.file, *(() if self.shard else shards.parts(self.path, "errors.jsonl"))):
            remove(file)

    def _settle_errors(self) -> None:
        """One errors.jsonl, whoever wrote the lines; none if nothing is missing any more."""
        self._raised.close()
        if errors := self.errors():
            write_bytes(self.path / "errors.jsonl", b"".join(map(line_of, errors)))
        else:
            remove(self.path / "errors.jsonl")
        for file in shards.parts(self.path, "errors.jsonl"):
            remove(file)

    # -- one writer at a time ----------------------------------------------------------------------------------------

    def _lock(self) -> None:
        """The cell for this process, or a place in it and the shard; `Busy` if another has it."""
        if self._whole.held:
            return
        if not self._whole.acquire(shared=self.shard is not None):
            raise self._busy(self.path)
        if self._part is not None and not self._part.acquire():
            self._whole.release()
            raise self._busy(self._own.file)

    def _take_whole(self) -> bool:
        """The cell for this process alone; False if others do not let go of it. Two that wait for each other would wait
        forever, so a shard lets go before it asks.
        """
        if self.shard is None or self._own.file == self.samples_file:
            self._lock()
            return True
        self._whole.release()
        return self._whole.acquire(patience=PATIENCE)

    def _claim(self) -> None:
        """Locked, and sure that nobody wrote to our file since we read it."""
        if self._claimed:
            return
        self._lock()
        known = self._own.ids, self._own.size
        self._own.load()
        if self._own.is_torn:
            check_done(self.path)
            self._own.mend()
        if known[0] is not None and known != (self._own.ids, self._own.size):
            self.close()
            raise Busy(f"another process added samples to {self.path} meanwhile. Run the same command again.")
        if not self._is_finished():
            self._described.write()
        self._claimed = True

    def _start(self) -> set[str]:
        """Begin to work on the cell; the ids in our file."""
        self._claim()
        if self._is_finished():
            self._withdraw()
            if self._was_open:
                raise Busy(f"another process finished {self.path} meanwhile. Run the same command again.")
            raise ValueError(f"cell {self.run_id} is finished: nothing can be added to it or taken out of it")
        self._session.begin()
        assert self._own.ids is not None
        return self._own.ids

    @staticmethod
    def _busy(what: Path) -> Busy:
        return Busy(f"another process is working on the cell {what}. Wait for it or end it, then run this again.")

    def _is_finished(self) -> bool:
        return seal.is_there(self.path)

    def _withdraw(self) -> None:
        """From a cell that is finished: who came too late leaves no lock file there."""
        self._whole.release()
        if self._whole.acquire(patience=0):
            self._remove_locks()
        self.close()

    def _remove_locks(self) -> None:
        for file in self.path.glob(f"{LOCK}.*of*"):
            remove(file)
        self._whole.release(remove=True)

    def close(self) -> None:
        """Let other processes work on the cell."""
        self._own.close()
        self._raised.close()
        self._claimed = False
        self._whole.release()
        if self._part is not None:
            self._part.release()

    def __enter__(self) -> CellStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_claimed"):
            self.close()

    def _clean(self) -> None:
        """Remove what earlier sessions left when they were killed: nobody else is here, and who just opens the cell and
        loses its temporary file writes it again.
        """
        for file in (*self.path.glob(".*.part"), *shards.parts(self.path)):
            remove(file)
