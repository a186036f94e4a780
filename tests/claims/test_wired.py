"""Claims that are decided here: they are reproduced, and they can fail."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.claims import decide, load
from harness.claims.checks.cost import Forwards, Order
from harness.claims.checks.identity import DensePrompt, Identity
from harness.claims.checks.patterns import Reach, Reaches
from harness.claims.loans import Bench
from harness.cli import main
from harness.config.build import build
from harness.errors import UserError

ABSENT = {"kvpress"} if find_spec("kvpress") is None else set()  # methods whose optional package is not installed
WIRED = [c for c in load() if c.check is not None and c.method not in ABSENT]
NOT_REPRODUCED = {"sliding.sparsity", "longnet.sparsity"}  # 0.9285 and 0.9541 where 0.94 is printed
POWER = {"_target_": "methods.patterns.power.PowerAttention"}
SLIDING = {"_target_": "methods.patterns.sliding.SlidingWindow"}


@pytest.mark.slow
def test_what_is_decided_here_is_reproduced() -> None:
    verdicts = {v.claim.name: v for v in decide(WIRED)}
    assert {name for name, v in verdicts.items() if v.status != "reproduced"} == NOT_REPRODUCED


def test_every_method_with_an_identity_setting_claims_it() -> None:
    without = {"dense", "dola", "opera", "carve", "cca", "moda"}
    from harness.config.compose import options

    claimed = {c.method for c in WIRED if isinstance(c.check, Identity)}
    assert claimed == set(options("method")) - without - ABSENT


@pytest.mark.parametrize("name", ["power.pairs", "longnet.complexity", "dilated.half", "power.sparsity", "vcd.order"])
def test_a_planted_wrong_number_is_not_reproduced(name: str) -> None:
    planted: dict[str, dict[str, Any]] = {
        "power.pairs": {"expected": [5244928, 70598656, 351535105]},
        "longnet.complexity": {"expected": 1.1},
        "dilated.half": {"at_most": 0.49},
        "power.sparsity": {"expected": 0.90},
        "vcd.order": {"expected": "down"},
    }
    right = next(c for c in WIRED if c.name == name)
    assert decide([replace(right, **planted[name])])[0].status == "not reproduced"


@pytest.mark.parametrize("layers", [1, 2, 4, 7])
def test_reach_on_the_table_equals_the_methods_own(layers: int) -> None:
    for node in (POWER, SLIDING):
        found = Reach(method=node, length=32768, layers=(layers,)).measure(Bench()).value[0]
        assert found == pytest.approx(build(node, "m").receptive_field(32768, layers))


def test_reach_is_compared_at_equal_cost_only() -> None:
    dearer = SLIDING | {"window_blocks": 40}
    found = Reaches(method=POWER, others=(dearer,), length=32768, layers=4).measure(Bench())
    assert "not of equal cost" in found.note and len(found.value) == 1


def test_a_setting_that_acts_is_no_identity() -> None:
    acting = Identity(method=POWER | {"block_size": 4, "window_blocks": 2}, model="micro-lm")
    assert acting.measure(Bench()).value > 0.1


def test_a_method_that_changes_the_prompt_has_no_dense_prompt() -> None:
    found = DensePrompt(method=POWER | {"block_size": 4, "window_blocks": 2}, model="micro-lm").measure(Bench())
    assert found.value > 0.1


def test_a_method_that_is_idle_shows_nothing() -> None:
    quest = {"_target_": "methods.selection.quest.Quest", "budget": 10**6, "dense_layers": 0, "page": 4}
    idle = DensePrompt(method={"_target_": "methods.dense.Dense"}, model="micro-lm").measure(Bench())
    assert idle.value == float("inf")
    assert DensePrompt(method=quest, model="micro-lm").measure(Bench()).value in (0.0, float("inf"))


def test_counting_tells_streams_apart_and_leaves_no_hook() -> None:
    bench = Bench()
    one = Forwards(method={"_target_": "methods.dense.Dense"}, model="micro-vlm").measure(bench).value
    two = Forwards(method={"_target_": "methods.contrast.vcd.VCD"}, model="micro-vlm").measure(bench).value
    assert (one, two) == ({"prefills": 1, "steps": 1.0}, {"prefills": 2, "steps": 2.0})
    assert not bench.view("micro-vlm").layers[0]._forward_pre_hooks


def test_a_check_that_refuses_is_not_tested() -> None:
    claim = next(c for c in WIRED if c.name == "power.identity")
    elsewhere = replace(claim, check=replace(claim.check, model="micro-xl"))  # type: ignore[type-var]
    verdict = decide([elsewhere])[0]
    assert verdict.status == "not tested" and "micro-lm" in verdict.reason


def test_wrong_parameters_of_a_method_are_found_before_anything_runs() -> None:
    with pytest.raises(UserError, match="window_blocks"):
        Order(methods={"a": POWER | {"window_blocks": 0}}, model="micro-vlm").validate()


def test_the_command_prints_table_counts_and_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    few = [c for c in load() if c.name in ("power.pairs", "sliding.sparsity", "vista.p1", "power.pg19")]
    monkeypatch.setattr("harness.commands.claims.load", lambda: few)
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["claims", "--results", str(tmp_path / "nothing here")]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert "4 claims: 1 reproduced, 1 not reproduced, 2 not tested" in out
    assert "vista.p1: no stored result for llava-1.5-7b" in out and "heed run suite=p1_chair" in out
    assert "power.pg19: needs Qwen2-7B" in out
