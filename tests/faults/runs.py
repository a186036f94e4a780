"""Runs of the toys, in this process and as commands in others, and what must be equal between two of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.config.compose import compose
from harness.plan.cells import Cell, cells
from harness.records.cells import CellRecord, read_cells
from tests.faults.toys import VARIABLE
from tests.records import sealed

REPOSITORY = Path(__file__).parents[2]
HEED = [sys.executable, "-c", "import sys; from harness.cli import main; sys.exit(main())"]
COMMON = ["task=[]", "method=[]", "efficiency=off", "tracking=disabled", "batch_tokens=500"]
TASK = "+task.toy={_target_: tests.faults.toys.Toy}"
SIX, SEVEN = (TASK.replace("Toy", f"Toy, n: {n}") for n in (6, 7))
SCALED = "+method.scaled={_target_: tests.faults.toys.Scaled}"
LEARNED = "+method.learned={_target_: tests.faults.toys.Learned}"


def plan(model: Path, *overrides: str) -> list[Cell]:
    """dense and `scaled` on the toy task, unless `overrides` say otherwise."""
    return cells(compose([f"model={model}", *_all(overrides)]))


def command(model: Path, results: Path, *overrides: str) -> list[str]:
    """The same as a command line."""
    return [*HEED, "run", f"model={model}", f"results={results}", *_all(overrides)]


def _all(overrides: tuple[str, ...]) -> list[str]:
    given = [o.partition("=")[0] for o in overrides]
    task = [] if "+task.toy" in given else [TASK]
    return [*(c for c in COMMON if c.partition("=")[0] not in given), *task, *(overrides or (SCALED,))]


def environment(**told: Any) -> dict[str, str]:
    """For a process in which the toys do as they are `told`."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), VARIABLE: json.dumps(told)}


def run(*args: Any, **told: Any) -> subprocess.CompletedProcess[str]:
    """`heed run` to its end."""
    return subprocess.run(command(*args), capture_output=True, text=True, env=environment(**told), check=False)


def start(*args: Any, **told: Any) -> subprocess.Popen[str]:
    """`heed run`, going on."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command(*args), text=True, env=environment(**told), **pipes)


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> None:
    """Poll; fails the test when the time is over."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def records(root: Path) -> dict[str, bytes]:
    """What two runs of the same cells must agree in, to the byte."""
    files = [p for p in sorted(root.glob("runs/*/*")) if p.name in sealed.FILES]
    return {str(p.relative_to(root)): sealed.content(p) for p in files}


def answers(root: Path) -> dict[tuple[str, str], Any]:
    """(method, id) -> text and score: what cannot depend on how samples were batched, nor on their order."""
    return {
        (cell.labels["method"], row["id"]): (row["text"], row["metrics"])
        for cell in read_cells(root)
        for row in cell.samples()
    }


def cell_of(root: Path, method: str) -> CellRecord:
    return next(c for c in read_cells(root) if c.labels["method"] == method)


def left_behind(root: Path) -> list[str]:
    """Temporary files, locks and shards' files: a finished run leaves none."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if re.search(r"^\.|\.\d+of\d+\.", p.name))
