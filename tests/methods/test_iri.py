"""IRI and its causal tracing: plans and edits by hand, then recovery rates and injections on a tiny model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.attention.attach import attach
from harness.attention.request import LiveRequest
from harness.attention.runtime import Idle
from harness.contracts.example import Example
from harness.errors import UserError
from harness.models.inputs import collate
from harness.models.view import View
from harness.running.calibrate import task_of
from methods.activations import fcct
from methods.activations.capture import Capture, Patch
from methods.activations.fcct import KINDS, curves, last_token, positive, recovery, yes_ids
from methods.activations.iri import Injection, plan
from methods.activations.steering import moved
from methods.contrast.vcd import VCD
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


def test_only_questions_about_present_objects_are_traced_and_none_is_an_error() -> None:
    assert positive(Example(id="a", references=("yes",))) and not positive(Example(id="b", references=("no",)))
    with pytest.raises(UserError, match="no usable question"):
        curves([], 500, 9)


def test_the_calibration_is_part_of_the_configuration() -> None:
    task: Any = task_of(Injection())
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


# ---- causal tracing


def request(view: View, seed: int = 0) -> LiveRequest:
    return LiveRequest(view, collate(view, samples(view, 1, seed)), Idle(), attach)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "instructblip"])
def test_a_patch_on_the_cache_equals_the_patched_forward(family: str) -> None:
    asked = request(tiny_vlm.view(family))
    clean = Capture(what=KINDS)
    answer = asked.forward(asked.inputs, under=clean).logits
    noisy = asked.with_pixels(VCD().noisy)
    out = asked.forward(noisy)
    for kind in KINDS:
        for layer, value in clean.kept[kind].items():
            patch = Patch(kind=kind, layer=layer, value=value)
            quick = last_token(asked, noisy, out.past_key_values, patch)
            torch.testing.assert_close(quick, asked.forward(noisy, under=patch).logits, atol=1e-5, rtol=1e-4)
            assert torch.equal(value, clean.kept[kind][layer])
    torch.testing.assert_close(quick, answer)  # the last layer's output decides everything
    nothing = last_token(asked, noisy, out.past_key_values)
    torch.testing.assert_close(nothing, out.logits, atol=1e-5, rtol=1e-4)
    assert (nothing - answer).abs().max() > 1e-3


def test_the_last_layers_output_recovers_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcct, "LEAST", -1.0)
    view = tiny_vlm.view("llava")
    asked = [(Example(id=f"e{i}", references=("no" if i == 1 else "yes",)), request(view, i)) for i in range(4)]
    found = Injection(questions=2).calibrate(asked)
    assert {kind: tuple(rates.shape) for kind, rates in found.items()} == {
        "attn_out": (4,), "mlp_out": (4,), "layer_out": (4,), "questions": (2,)
    }  # fmt: skip
    assert found["layer_out"][-1] == pytest.approx(1.0, abs=1e-3) and found["questions"].tolist() == [2, 0]
    alone = [recovery(r, 900) for _, r in (asked[0], asked[2])]
    torch.testing.assert_close(found["attn_out"], (alone[0][0] + alone[1][0]) / 2)  # type: ignore[index]
    torch.testing.assert_close(recovery(asked[0][1], 900), alone[0])  # the noise belongs to the example


def test_a_question_that_noise_does_not_touch_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcct, "LEAST", 2.0)
    assert recovery(request(tiny_vlm.view("llava")), 500) is None


def test_yes_is_read_from_whole_words_or_else_from_first_pieces() -> None:
    class Words:
        name = "words"
        table = {"Yes": [5], " Yes": [1, 5], "yes": [6], " yes": [1, 6]}
        encode = staticmethod(lambda text: Words.table[text])
        decode = staticmethod(lambda ids: {1: " ", 5: "Yes", 6: "yes"}[ids[0]])

    assert yes_ids(Words) == [5, 6]  # type: ignore[arg-type]
    view = tiny_vlm.view("llava")
    assert [view.decode([i]) for i in yes_ids(view)] == ["Y", "y"]
