"""Published figures: from the claim files and from the suites, numbers as printed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.claims import published
from harness.config.compose import options

ROOT = Path(__file__).parents[2]
KEYS = {"paper", "table", "model", "protocol", "task", "metric", "setting", "value", "unit", "read", "suite"}


def find(method: str, **where: str) -> list[float]:
    return [row["value"] for row in published(method) if all(row[k] == v for k, v in where.items())]


def test_every_figure_has_its_whole_provenance() -> None:
    for method in options("method"):
        for row in published(method):
            assert (
                set(row) == KEYS and row["paper"] and row["table"] and row["model"] and isinstance(row["value"], float)
            )


def test_no_figure_stands_twice() -> None:
    for method in options("method"):
        keys = [
            (r["paper"], r["model"], r["table"], r["protocol"], r["task"], r["metric"], r["setting"])
            for r in published(method)
        ]
        assert len(set(keys)) == len(keys), method


@pytest.mark.parametrize(
    ("method", "where", "values"),
    [
        ("power", {"task": "perplexity"}, [10.03, 10.08, 10.05, 10.00]),
        ("power", {"table": "RULER average", "setting": "32K"}, [50.74]),
        ("dense", {"paper": "2503.03588", "task": "perplexity", "setting": "4K"}, [9.77]),
        ("longnet", {"setting": "variable tracking"}, [9.80]),
        ("vista", {"suite": "p1_chair"}, [20.4, 6.9]),
        ("vista", {"table": "CHAIR, nucleus", "model": "LLaVA-1.5-7B"}, [24.0, 8.2]),
        ("vhr", {"suite": "p2_chair", "metric": "chair_s"}, [33.32]),
        ("iri", {"model": "LLaVA-1.5-7B", "table": "POPE", "metric": "accuracy_adversarial"}, [85.17]),
        ("opera", {"read": "release", "model": "LLaVA-1.5-7B", "metric": "f1_popular"}, [86.4]),
        ("carve", {"model": "LLaVA-1.5-7B", "table": "accuracy, t_end", "setting": "V*"}, [66.5]),
        ("var", {"suite": "p5_chair_512", "metric": "recall"}, [72.6]),
    ],
)
def test_figures_are_the_printed_ones(method: str, where: dict[str, str], values: list[float]) -> None:
    assert find(method, **where) == values


def test_a_suite_says_paper_model_and_unit() -> None:
    row = next(r for r in published("vhr") if r["suite"] == "p2_chair" and r["metric"] == "length")
    assert (row["paper"], row["model"], row["unit"]) == ("2412.13949", "LLaVA-1.5-7B", "words")


def test_the_caller_cannot_change_what_the_next_one_reads() -> None:
    published("vista")[0]["value"] = 0.0
    assert published("vista")[0]["value"] != 0.0


@pytest.mark.parametrize("name", ["p5_chair_512", "p5_chair_64"])
def test_figures_of_a_third_party_say_that_its_settings_are_not_known(name: str) -> None:
    published = yaml.safe_load((ROOT / "configs" / "suite" / f"{name}.yaml").read_text())["published"]
    assert "third party, whose code and settings are not known" in published["source"]
    assert "var here is mode=paper (q 0.6), there it may be the release (q 0.4)" in published["protocol"]
