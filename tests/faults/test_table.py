"""`docs/faults.md`: every promise names its tests, every named test exists, and no test of this folder is left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.faults.runs import REPOSITORY

PAGE = REPOSITORY / "docs" / "faults.md"
NOT_PROMISES = {
    "test_this_really_is_another_system",
    "test_subprocesses_are_real",
}  # they show that the others show something


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    return [[part.strip() for part in line.strip("|").split(" | ")] for line in lines]


def named(cell: str) -> list[tuple[str, str]]:
    return [tuple(test.split("::")) for test in re.findall(r"`(tests/\S+::\w+)`", cell)]  # type: ignore[misc]


@cache
def functions_of(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_tests_that_exist():
    assert len(rows()) >= 15
    for what, promise, shown in rows():
        assert promise and named(shown), what
        for file, name in named(shown):
            assert (REPOSITORY / file).is_file() and name in functions_of(REPOSITORY / file), f"{file}::{name}"


def test_every_test_of_a_fault_stands_behind_a_promise():
    told = {name for _, _, shown in rows() for _, name in named(shown)}
    files = [f for f in Path(__file__).parent.glob("test_*.py") if f != Path(__file__)]
    tests = {name for file in files for name in functions_of(file) if name.startswith("test_")}
    assert tests - told == NOT_PROMISES
