"""IRI: plans and edits by hand, then injections on a tiny model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.errors import UserError
from harness.plan.identities import calibration_task
from methods.activations.iri import Injection, plan
from methods.activations.steering import moved
from methods.dense import Dense
from tests import tiny_vlm
from tests.methods.pictured import before_and_after, check_identity, check_request, logits, samples


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_sources_and_targets_are_ranked_and_sources_lie_below() -> None:
    rates = [0.0, 0.3, 0.1, 0.5, 0.2, 0.4, -0.1, 0.05, 0.0]
    found = plan(rates, sources=2, targets=4)  # sources 3 and 5; targets 1, 3, 4, 5
    assert found == {4: [(3, 0.5)], 5: [(3, 0.5)]}
    deep = plan([float(i) for i in range(32)], 3, 10)  # sources 29..31, targets 22..31
    assert deep == {30: [(29, 29.0)], 31: [(29, 29.0), (30, 30.0)]}


def test_in_a_shallow_model_every_layer_is_a_target() -> None:
    assert plan([1.0, 2.0, 3.0, 0.0], 1, 10) == {3: [(2, 3.0)]}
    assert plan([1.0, 0.5, 0.0], 2, 10) == {1: [(0, 1.0)], 2: [(0, 1.0), (1, 0.5)]}


def test_injection_is_its_formula_and_keeps_the_norm() -> None:
    x, added = random(3, 16), random(3, 16, seed=1)
    new = moved(x, added, 0.26)
    for b in range(3):
        y = x[b] + 0.26 * added[b]
        torch.testing.assert_close(new[b], y * x[b].norm() / y.norm())
    torch.testing.assert_close(moved(x, added, 0.0), x)


def test_the_calibration_is_part_of_the_configuration() -> None:
    task: Any = calibration_task(Injection(), Injection().lesson())
    assert (task.source, task.scenes, task.seed, task.suffix) == ("scenes", 60, 77, "one_word")
    assert hash(Injection()) == hash(Injection(calibrate_on={"_target_": "tasks.pope.Pope"}))


# ---- on a model

RATES = {"attn_out": torch.tensor([0.1, 0.4, 0.2, 0.3]), "mlp_out": torch.tensor([0.5, 0.1, 0.2, 0.3])}
METHOD = Injection(sources=1, targets=2)
PLANS = {"attn_out": {3: [(1, 0.4)]}, "mlp_out": {3: [(0, 0.5)]}}


def test_zero_strengths_equal_dense() -> None:
    check_identity(tiny_vlm.view("llava"), Injection(attn=0, mlp=0), RATES)


def test_a_batch_equals_its_samples_in_either_order() -> None:
    check_request(tiny_vlm.view("llava"), Injection(), RATES)


@pytest.mark.parametrize("family", tiny_vlm.FAMILIES)
def test_it_acts_in_every_family(family: str) -> None:
    view = tiny_vlm.view(family)
    asked = samples(view, 1)
    assert (logits(view, Injection(), asked, artifact=RATES) - logits(view, Dense(), asked)).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["attn_out", "mlp_out"])
def test_the_last_position_of_the_targets_is_injected_and_keeps_its_norm(kind: str) -> None:
    view = tiny_vlm.view("llava")
    modules = {i: view.attention(i) if kind == "attn_out" else view.mlp(i) for i in range(4)}
    old, new = before_and_after(view, METHOD, modules, samples(view), artifact=RATES)
    for i in range(4):
        for step, (before, after) in enumerate(zip(old[i], new[i], strict=True)):
            if i not in PLANS[kind]:
                assert torch.equal(before, after)
                continue
            [(source, rate)] = PLANS[kind][i]
            strength = 0.26 if kind == "attn_out" else 0.16
            expected = before[:, -1] + strength * rate * old[source][step][:, -1]
            expected *= before[:, -1:].norm(dim=-1) / expected.norm(dim=-1, keepdim=True)
            torch.testing.assert_close(after[:, -1], expected)
            assert torch.equal(after[:, :-1], before[:, :-1])


def test_nothing_to_inject_is_an_error() -> None:
    view = tiny_vlm.view("llava")
    last = {kind: torch.tensor([0.1, 0.2, 0.3, 0.9]) for kind in RATES}
    with pytest.raises(UserError, match="needs recovery rates"):
        logits(view, Injection(), samples(view, 1))
    with pytest.raises(UserError, match="injects nothing"):
        logits(view, Injection(sources=1), samples(view, 1), artifact=last)
