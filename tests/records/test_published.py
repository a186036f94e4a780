"""Published numbers stand beside measured ones, and the base row decides whether the rest may be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.compose import CONFIGS, compose
from harness.records.cells import CellRecord
from harness.records.published import gate, render, rows
from harness.terminal.printing import Terminal

PUBLISHED: dict[str, Any] = {
    "source": "a paper", "protocol": "a model, some pictures", "gate": {"chair_s": 2.5},
    "rows": {
        "dense": {"chair": {"chair_s": 46.4, "length": 80.0}},
        "vista": {"chair": {"chair_s": 20.4}},
        "other": {"chair": {"chair_s": 30.0}},
    },
}  # fmt: skip


def cell(method: str, chair_s: float, length: float = 70.0) -> CellRecord:
    values = {
        "chair_s": {"value": chair_s, "low": chair_s - 0.1, "high": chair_s + 0.1},
        "length": {"value": length, "low": None, "high": None},
    }
    facts = [{"name": "chair_s", "percent": True}, {"name": "length", "percent": False}]
    config = {"labels": {"model": "m", "method": method, "task": "chair"}, "task_facts": {"metrics": facts}}
    return CellRecord(method, Path(method), config, {"values": values}, done=True)


def test_measured_numbers_are_scaled_like_the_published_ones() -> None:
    found = {(r["method"], r["metric"]): r for r in rows(PUBLISHED, [cell("dense", 0.47), cell("vista", 0.25)])}
    assert found["dense", "chair_s"]["measured"] == pytest.approx(47) and found["dense", "chair_s"]["published"] == 46.4
    assert found["dense", "length"]["measured"] == 70
    assert found["vista", "chair_s"]["low"] == pytest.approx(15)
    assert found["other", "chair_s"]["measured"] is None


@pytest.mark.parametrize(("base", "words"), [(0.47, "within"), (0.60, "chair_s +13.6"), (None, "was not run")])
def test_the_base_row_decides_whether_methods_may_be_judged(base: float | None, words: str) -> None:
    cells = [cell("vista", 0.2)] + ([cell("dense", base)] if base is not None else [])
    assert words in gate(PUBLISHED, rows(PUBLISHED, cells))


def test_the_table_shows_both_and_what_is_missing() -> None:
    console = Terminal(width=110, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    render(PUBLISHED, [cell("dense", 0.47)], console)
    text = console.export_text()
    assert "a paper" in text and "46.4" in text and "47.0 [37.0, 57.0]" in text and "+0.6" in text
    assert any(line.split()[:4] == ["m", "chair", "other", "chair_s"] and line.split()[-2:] == ["-", "-"]
               for line in text.splitlines())  # fmt: skip


@pytest.mark.parametrize("path", sorted((CONFIGS / "suite").glob("p?_*.yaml")), ids=lambda p: p.stem)
def test_every_protocol_of_a_paper_composes_and_names_its_source(path: Path) -> None:
    cfg = compose([f"suite={path.stem}"])
    published: Any = cfg.published
    assert published.source and published.protocol and cfg.preset.name == "paper"
    assert set(published.gate) <= set(next(iter(published.rows["dense"].values())))
    assert set(cfg.method) <= set(published.rows), "every method that is run has its published row"
