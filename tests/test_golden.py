"""The engine gives the numbers that it gave when its VERSION was raised last."""

from __future__ import annotations

import pytest
import torch

from harness.attention import edited_rows
from tests import golden


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in golden.COMPILED else n for n in golden.CELLS]
)
def test_numbers_move_only_with_the_version(name: str) -> None:
    problem = golden.compare(name, golden.read(), golden.CELLS[name]())
    assert not problem, problem


@pytest.mark.parametrize("name", ["attention edited scores", "attention edited weights"])
@pytest.mark.parametrize("factor", [1.5, 1.01])
def test_an_engine_that_scales_scores_is_caught(monkeypatch: pytest.MonkeyPatch, name: str, factor: float) -> None:
    real = edited_rows._attend
    monkeypatch.setattr(edited_rows, "_attend", lambda q, *args: real(q * factor, *args))
    assert "raise VERSION" in golden.compare(name, golden.read(), golden.CELLS[name]())


def test_what_compares_numbers_is_strict_where_it_can_be() -> None:
    assert not golden.differing([1.0, "a", [True, 2]], [1.00005, "a", [True, 2.0]])
    for other in (
        [1.001, "a", [True, 2]],
        [1.0, "b", [True, 2]],
        [1.0, "a", [False, 2]],
        [1.0, "a", [1, 2]],
        [1.0, "a"],
    ):
        assert golden.differing([1.0, "a", [True, 2]], other)


def test_the_file_is_not_rewritten_under_the_same_version(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(golden, "CELLS", {"a": lambda: [1.0], "b": lambda: [2.0]})
    monkeypatch.setattr(golden, "FILE", tmp_path / "golden.json")
    write = lambda **how: golden.write(file=tmp_path / "golden.json", **how)  # noqa: E731
    assert write() == ["a", "b"]
    monkeypatch.setattr(golden, "CELLS", {"a": lambda: [5.0], "b": lambda: [2.0], "c": lambda: [3.0]})
    assert write() == ["c"] and golden.read()["entries"] == {"a": [1.0], "b": [2.0], "c": [3.0]}
    assert "raise VERSION" in golden.compare("a", golden.read(), [5.0])
    monkeypatch.setattr(golden, "VERSION", golden.VERSION + 1)
    assert "VERSION was raised" in golden.compare("a", golden.read(), [5.0])
    assert write() == ["a", "b", "c"] and not golden.compare("a", golden.read(), [5.0])
    assert write() == [] and write(force=True) == ["a", "b", "c"]


def test_every_cell_is_stored_for_this_version() -> None:
    assert set(golden.read()["entries"]) == set(golden.CELLS) and golden.read()["version"] == golden.VERSION
    assert torch.get_default_dtype() == torch.float32
