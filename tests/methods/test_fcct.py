"""Causal tracing: recovery rates against whole patched forwards, which questions count, and what the probe concludes."""

from __future__ import annotations

import pytest
import torch

from harness.attention.attach import prepared
from harness.attention.request import LiveRequest
from harness.contracts.asker import Answer
from harness.contracts.example import Example
from harness.contracts.table import Table
from harness.errors import UserError
from harness.models.inputs import collate
from harness.models.view import View
from methods.activations.capture import Capture, Patch
from methods.contrast.vcd import VCD
from methods.probes import fcct
from methods.probes.fcct import FCCT, KINDS, last_token, positive, probability, recovery, yes_ids
from tests import tiny_vlm
from tests.methods.pictured import samples

ANSWER = Answer("yes", "", 1, 1)  # which causal tracing does not look at


def test_only_questions_about_present_objects_are_traced_and_none_is_an_error() -> None:
    assert positive(Example(id="a", references=("yes",))) and not positive(Example(id="b", references=("no",)))
    with pytest.raises(UserError, match="no usable question"):
        FCCT().conclude([])


def request(view: View, seed: int = 0) -> LiveRequest:
    attached = prepared(view, FCCT())
    attached.begin(collate(view, samples(view, 1, seed)))
    return attached.request


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


@torch.no_grad()
def test_recovery_rates_are_those_of_whole_patched_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcct, "LEAST", -1.0)
    asked = request(tiny_vlm.view("llava"))
    yes, clean = yes_ids(asked.view), Capture(what=KINDS)
    p_clean = probability(asked.forward(asked.inputs, under=clean).logits, yes)
    noisy = asked.with_pixels(VCD(noise_step=900).noisy)
    p_noisy = probability(asked.forward(noisy).logits, yes)
    rows = list(FCCT().rows(Example(id="e", references=("yes",)), asked, ANSWER))
    assert [row[0] for row in rows] == [0, 1, 2, 3] and all(row[4] == p_clean - p_noisy for row in rows)
    for layer, *rates, _ in rows:
        for kind, rate in zip(KINDS, rates, strict=True):
            patch = Patch(kind=kind, layer=layer, value=clean.kept[kind][layer])
            p_patched = probability(asked.forward(noisy, under=patch).logits, yes)
            assert rate == pytest.approx((p_patched - p_noisy) / (p_clean - p_noisy), abs=2e-3)
    assert rows[-1][3] == pytest.approx(1, abs=2e-3)  # the last layer's output is the answer


def test_the_conclusion_is_the_mean_over_the_questions_that_were_weakened() -> None:
    rows = [[(0, 0.25, 0.5, 0.0, 0.3), (1, 0.75, 0.5, 1.0, 0.3)], [(None, None, None, None, 0.01)],
            [(0, 0.75, 0.0, 0.5, 0.2), (1, 0.25, 1.0, 1.0, 0.2)]]  # fmt: skip
    found = FCCT().conclude(rows)
    assert found.tables["curves"].rows == ((0, 0.5, 0.25, 0.25), (1, 0.5, 0.75, 1.0))
    assert found.tensors["questions"].tolist() == [2, 1] and found.tensors["mlp_out"].tolist() == [0.25, 0.75]
    assert Table(FCCT.columns, tuple(row for one in rows for row in one)).of_kind("layer")[0].name == "layer"


def test_a_question_about_an_absent_object_has_no_rows() -> None:
    assert FCCT().rows(Example(id="n", references=("no",)), request(tiny_vlm.view("llava")), ANSWER) == []


def test_the_last_layers_output_recovers_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcct, "LEAST", -1.0)
    view = tiny_vlm.view("llava")
    asked = [(Example(id=f"e{i}", references=("no" if i == 1 else "yes",)), request(view, i)) for i in range(4)]
    probe = FCCT()
    rows = [list(probe.rows(e, r, ANSWER)) for e, r in asked[:3] if probe.reads(e)]
    assert all(map(probe.tells, rows))
    found = probe.conclude(rows).tensors
    assert {kind: tuple(rates.shape) for kind, rates in found.items()} == {
        "attn_out": (4,), "mlp_out": (4,), "layer_out": (4,), "questions": (2,)
    }  # fmt: skip
    assert found["layer_out"][-1] == pytest.approx(1.0, abs=1e-3) and found["questions"].tolist() == [2, 0]
    alone = [recovery(r, 900)[0] for _, r in (asked[0], asked[2])]
    torch.testing.assert_close(found["attn_out"], (alone[0][0] + alone[1][0]) / 2)  # type: ignore[index]
    torch.testing.assert_close(recovery(asked[0][1], 900)[0], alone[0])  # the noise belongs to the example


def test_a_question_that_noise_does_not_touch_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcct, "LEAST", 2.0)
    rates, drop = recovery(request(tiny_vlm.view("llava")), 500)
    assert rates is None and drop < 2
    asked = Example(id="e", references=("yes",))
    assert FCCT(noise_step=500).rows(asked, request(tiny_vlm.view("llava")), ANSWER) == [(None, None, None, None, drop)]


def test_yes_is_read_from_whole_words_or_else_from_first_pieces() -> None:
    class Words:
        name = "words"
        table = {"Yes": [5], " Yes": [1, 5], "yes": [6], " yes": [1, 6]}
        encode = staticmethod(lambda text: Words.table[text])
        decode = staticmethod(lambda ids: {1: " ", 5: "Yes", 6: "yes"}[ids[0]])

    assert yes_ids(Words) == [5, 6]  # type: ignore[arg-type]
    view = tiny_vlm.view("llava")
    assert [view.decode([i]) for i in yes_ids(view)] == ["Y", "y"]
