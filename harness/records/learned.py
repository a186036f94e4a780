"""What lessons learned: one folder for each, under the id that follows from its identity.

    <root>/learned/<id>/
        config.json           label and identity of the lesson
        working/              what the lesson keeps while it learns, to go on after `kill -9`; gone when it is over
        learned.safetensors   the tensors; its header holds the identity, too, for a file that is taken elsewhere
        tables/               the tables (`tables`)
        log.jsonl             what happened meanwhile, if the lesson keeps a log
        DONE                  comes last: the digests of all these (`seal`)

Who learns holds `.lock`; whoever wants the same waits, and reads what the first one stored, or goes on in its place if it
died. A folder that was changed after DONE is an error that names the file; without DONE it is learned (further).
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.contracts.lesson import LOG, Learned, Lesson
from harness.disk.locks import NAME as LOCK
from harness.disk.locks import Lock, is_held
from harness.disk.whole import disk_error, read_json, remedy, sync_folder, write_bytes, write_json
from harness.errors import UserError
from harness.identity.run_id import canonical, run_id
from harness.records import seal, tables

if TYPE_CHECKING:
    from torch import Tensor

FOLDER, WORKING, TENSORS = "learned", "working", "learned.safetensors"
SCHEMA = 1
LAYOUT = seal.Layout(("config.json", TENSORS, LOG), (tables.FOLDER,), "", "lesson")
PATIENCE = 1.0  # seconds between two looks whether another process has learned it

State = Literal["learned", "being learned", "to learn", "damaged"]


def lesson_id(lesson: Lesson) -> str:
    """16 hex digits that stand for everything that the lesson depends on."""
    return run_id(lesson.identity())


def place(root: Path, key: str) -> Path:
    """The folder of the lesson with this id."""
    return root / FOLDER / key


def obtain(lesson: Lesson, root: Path, progress: Callable[[str], None]) -> Learned:
    """What the lesson learned: read if it was learned before, else learned now, by this process or by another one that is
    at it. `UserError` if it cannot be learned, or if its folder was changed.
    """
    folder = place(root, lesson_id(lesson))
    known = read(folder)
    if known is None:
        with _held(folder, lesson.label, progress):
            known = read(folder)
            if known is None:
                _learn(lesson, folder, progress)
                known = read(folder)
    _clear(folder)
    assert known is not None
    return known


def read(folder: Path) -> Learned | None:
    """What is stored in a lesson's folder, tensors on the CPU; None if it was not learned (to the end) yet."""
    if seal.check(folder, LAYOUT) is None:
        return None
    _check_config(folder)
    return Learned(_tensors(folder / TENSORS), tables.concluded(folder))


def look(folder: Path) -> tuple[State, str]:
    """Where a lesson stands, and what is wrong with a damaged one. Nothing is read twice that has not changed since: a folder
    is looked at again and again by who watches it.
    """
    now = _appearance(folder)
    if folder in _whole and _whole[folder] == now:
        return "learned", ""
    try:
        done = seal.check(folder, LAYOUT) is not None
        if done or (folder / "config.json").exists():
            _check_config(folder)
    except UserError as error:
        return "damaged", str(error)
    if done:
        _whole[folder] = now
        return "learned", ""
    return "being learned" if is_held(folder) else "to learn", ""


_whole: dict[Path, Any] = {}  # what the files of a lesson that was found whole looked like then


def _appearance(folder: Path) -> list[tuple[str, int, int, int]]:
    """Name, size, time and inode of every file."""
    found = []
    for file in sorted(folder.rglob("*")):
        with contextlib.suppress(OSError):
            about = file.stat()
            found.append((str(file), about.st_size, about.st_ctime_ns, about.st_ino))
    return found


# -- learning --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _held(folder: Path, label: str, progress: Callable[[str], None]) -> Iterator[None]:
    """The lesson for this process alone, as soon as nobody else has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise disk_error(folder, err) from err
    lock = Lock(folder / LOCK)
    while not lock.acquire(patience=0):
        progress(f"waiting for {label}, which another process is learning")
        time.sleep(PATIENCE)
    try:
        yield
    finally:
        lock.release(remove=True)


def _learn(lesson: Lesson, folder: Path, progress: Callable[[str], None]) -> None:
    _describe(lesson, folder)
    working = folder / WORKING
    try:
        working.mkdir(exist_ok=True)
    except OSError as err:
        raise disk_error(working, err) from err
    progress(f"learning {lesson.label}")
    _store(folder, lesson.learn(working, progress), canonical(lesson.identity()))
    seal.write(folder, LAYOUT)


def _describe(lesson: Lesson, folder: Path) -> None:
    if (folder / "config.json").exists():
        return _check_config(folder)
    write_json(folder / "config.json", {"schema": SCHEMA, "label": lesson.label, "identity": dict(lesson.identity())})


def store(folder: Path, found: Learned, identity: str) -> None:
    """Write tensors and tables into `folder`, a lesson's or that of a probe's cell. Done again, it writes the same.
    `identity`: what they were learned of, as canonical JSON; it stands in the header of the tensors.
    """
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in found.tensors.items()}
    write_bytes(folder / TENSORS, save(tensors, metadata={"identity": identity}))
    shutil.rmtree(folder / tables.FOLDER, ignore_errors=True)  # of an attempt that was interrupted
    if found.tables:
        tables.write(folder, found.tables)


def _store(folder: Path, found: Learned, identity: str) -> None:
    """Write everything but DONE."""
    store(folder, found, identity)
    if (log := folder / WORKING / LOG).exists():
        write_bytes(folder / LOG, log.read_bytes())
    sync_folder(folder)


def _clear(folder: Path) -> None:
    """What a finished lesson had kept to go on with. It stands behind DONE only if the process died in between."""
    shutil.rmtree(folder / WORKING, ignore_errors=True)


# -- reading ---------------------------------------------------------------------------------------------------------


def _check_config(folder: Path) -> None:
    """`UserError` unless the stored identity is the one that the folder is named by."""
    file = folder / "config.json"
    stored = read_json(file)
    if stored.get("schema") != SCHEMA:
        raise UserError(
            f"{file} has the layout version {stored.get('schema')!r}; this heed reads version {SCHEMA}. Use the heed that "
            "wrote it, or give another results folder."
        )
    identity: Any = stored.get("identity")
    found = run_id(identity) if isinstance(identity, Mapping) else "-"
    if found != folder.name:
        raise UserError(
            f"{file} is damaged (its identity has the id {found}, not that of its folder). {remedy(folder)}"
        )


def _tensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError, ValueError) as err:
        raise UserError(f"{file} cannot be read ({err}). {remedy(file.parent)}") from err
