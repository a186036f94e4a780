"""The small tasks of `material`, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.lm_eval.material import write


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("lm-eval") / "tasks")
