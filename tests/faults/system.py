"""Processes that live on another system: one whose renames, locks or clock are not what a local disk offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.runs import REPOSITORY

SOURCE = Path(__file__).with_name("shim.c")
STORE = """
import sys
from pathlib import Path
from tests.records.test_store import row, store
with store(Path(sys.argv[1])) as cell:
    have = cell.finished()
    for i in range(0, 12, 3):
        if f"e{i}" not in have:
            cell.append([row(i), row(i + 1), row(i + 2)])
    cell.finish({"n": 12})
"""


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def elsewhere(shim: Path, **answers: int) -> dict[str, str]:
    """The environment of a process for which the system answers as `answers` say (`RENAME=errno.ENOENT`)."""
    said = {f"SHIM_{key}": str(value) for key, value in answers.items()}
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "LD_PRELOAD": str(shim), **said}


def python(code: str, *args: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own."""
    words = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(words, capture_output=True, text=True, env=env, check=False)
