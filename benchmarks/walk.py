"""The way of one example through the files of the project: in which order it meets them, and how often it comes back.

    python benchmarks/walk.py passkey        # one prompt of passkey, from `heed run` to its stored row and the table
    python benchmarks/walk.py pope           # the picture of one question of POPE
    python benchmarks/walk.py pope --list    # every stay, in order

A function is on the way if the example is among its arguments or in what it returns, alone or inside of lists, mappings and
data classes: the id of a prompt or a text with its key, of a picture the image itself, its pixels or its features. Token ids
are not recognised, nor is what an object of another kind holds, `self` included. A *stay* is being in one file without
interruption, a *return* is a stay in a file that was visited before. Whoever reads the code along the way opens as many files
as there are rooms, and finds the place again as often as there are returns. The run is traced the second time, so what happens
once for each process is not on the way.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("harness", "methods", "tasks", "zoo")
DEEP = 4  # how far into lists, mappings and data classes is looked
WIDE = 8  # how many entries of each
RUNS = {
    "passkey": ["model=micro-lm", "method=[dense]", "task=[passkey]"],
    "pope": ["model=micro-vlm", "method=[dense]", "task=[pope]"],
}

Carries = Callable[[Any], bool]


def parts(value: Any) -> Iterable[Any]:
    """What a value holds."""
    if isinstance(value, Mapping):
        return list(value.values())[:WIDE]
    if isinstance(value, list | tuple):
        return value[:WIDE]
    if is_dataclass(value) and not isinstance(value, type):
        return [value.__dict__.get(field.name) for field in fields(value)]
    return ()


def holds(value: Any, leaf: Carries, deep: int = DEEP) -> bool:
    """Whether a value is what `leaf` looks for, or holds it."""
    return leaf(value) or (deep > 0 and any(holds(part, leaf, deep - 1) for part in parts(value)))


def of_text(row: Mapping[str, Any]) -> Carries:
    """What is recognised of an example of text: its id, and its first reference, which stands in prompt and answer."""
    marks = (str(row["id"]), str(row["references"][0]))
    return lambda value: isinstance(value, str) and any(mark in value for mark in marks)


def of_picture(row: Mapping[str, Any]) -> Carries:
    """What is recognised of a picture: the picture itself, or its pixels and features as the model reads them."""
    from PIL.Image import Image
    from torch import Tensor

    return lambda value: (
        isinstance(value, Image) or (isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1)
    )


class Walk:
    """The files that the example meets, in order."""

    def __init__(self, carries: Carries) -> None:
        self.carries, self.way, self.on = carries, list[str](), set[int]()

    def __call__(self, frame: FrameType, event: str, result: Any) -> None:
        """What `sys.setprofile` calls at each beginning and end of a function."""
        if (name := self._file(frame)) is None:
            return
        code = frame.f_code
        if event == "call":
            n = code.co_argcount + code.co_kwonlyargcount
            if any(holds(frame.f_locals.get(arg), self.carries) for arg in code.co_varnames[:n] if arg != "self"):
                self._enter(frame, name)
        elif event == "return":
            if holds(result, self.carries):
                self._enter(frame, name)
                if (back := frame.f_back) is not None and (above := self._file(back)) is not None:
                    self._enter(back, above)
            elif id(frame) in self.on and (back := frame.f_back) is not None and id(back) in self.on:
                self.way.append(str(self._file(back)))
            self.on.discard(id(frame))

    def _enter(self, frame: FrameType, name: str) -> None:
        self.on.add(id(frame))
        self.way.append(name)

    @staticmethod
    def _file(frame: FrameType) -> str | None:
        """The path of a function's file in the project; None for other code."""
        try:
            path = Path(frame.f_code.co_filename).relative_to(ROOT)
        except ValueError:
            return None
        return str(path) if path.parts[0] in FOLDERS else None

    @property
    def stays(self) -> list[str]:
        """One for each time that the example comes into a file from another."""
        return [name for name, _ in groupby(self.way)]


def run(arguments: list[str], folder: Path) -> None:
    """`heed run` in this process, silent."""
    from harness.cli import main

    with contextlib.redirect_stdout(io.StringIO()):
        main(["run", *arguments, "limit=1", "efficiency=off", f"results={folder}"])


def walk(task: str) -> Walk:
    """The way of the first example of a task."""
    with tempfile.TemporaryDirectory() as folder:
        run(RUNS[task], Path(folder, "first"))
        stored = next(Path(folder, "first").rglob("samples.jsonl")).read_text(encoding="utf-8").splitlines()
        row = json.loads(stored[0])
        found = Walk(of_picture(row) if task == "pope" else of_text(row))
        sys.setprofile(found)
        try:
            run(RUNS[task], Path(folder, "second"))
        finally:
            sys.setprofile(None)
        return found


def main() -> None:
    """Print rooms, stays and returns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=RUNS)
    parser.add_argument("--list", action="store_true", help="print every stay, in order")
    chosen = parser.parse_args()
    stays = walk(chosen.task).stays
    times = Counter(stays)
    if chosen.list:
        print("\n".join(stays), end="\n\n")
    for name, n in times.items():
        print(f"{n:4} {name}")
    print(f"{len(times)} rooms, {len(stays)} stays, {len(stays) - len(times)} returns")


if __name__ == "__main__":
    main()
