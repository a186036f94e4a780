"""The methods that edit scores and weights, on tiny models: equal to full eager attention with the edit inside, engaged,
identity, batches, beams, restoring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from harness.asking.decoding import Decoding
from harness.asking.generation import generate
from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.errors import NotEngaged, UserError
from harness.models.inputs import Inputs, Sample, collate, sample_of
from harness.models.view import View
from methods.contrast.two_stream import pai_guidance
from methods.dense import Dense
from methods.weights.pai import PAI
from methods.weights.paint import Paint, token_sets
from methods.weights.vaf import VAF
from methods.weights.var import VAR, given, redistribute, relative, sink_tokens
from tests import tiny_vlm
from tests.methods.pictured import answers, check_identity, check_request, forced, logits, samples

EIGHT = tuple(range(8))  # random tokens have no massive activations: some channels and a low bar make sinks
ANY_SINKS = VAR(tau=2.2, sink_dims=EIGHT, mass=0.05, rho=0.0)
ACTING = (PAI(gamma=None), Paint(gamma=None), VAF(), ANY_SINKS, replace(ANY_SINKS, mode="release", rho=1.0))
IDENTITY = (
    PAI(alpha=0, gamma=None), PAI(alpha=0, gamma=0), PAI(alpha=0, gamma=1, cut=0), Paint(alpha=0, beta=0, gamma=None),
    VAF(enhance=1, suppress=1),
    replace(ANY_SINKS, q=0), VAR(tau=7.9),
)  # fmt: skip
FAMILIES = tiny_vlm.FAMILIES
acting = pytest.mark.parametrize("method", ACTING, ids=lambda m: f"{m.name}-{getattr(m, 'mode', '')}".rstrip("-"))


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


# ---- full eager attention with the edit inside, written a second time


Edit = Callable[[int, Tensor], Tensor]


@contextmanager
def full_eager(view: View, rows: str, image: Tensor, scores: Edit, probs: Edit) -> Iterator[None]:
    """Every row of every layer in eager maths; `scores` and `probs` get `(layer, [B, H, n_q, n_k])` and count in the
    rows that are `last` or `after_image`. `image` bool `[B, T]` of the prompt.
    """
    end = torch.where(image, torch.arange(image.shape[1]) + 1, 0).amax(1)

    def attention(module, q, k, v, mask, scaling=None, **kwargs):
        n_q, n_k = q.shape[2], k.shape[2]
        at = torch.arange(n_k - n_q, n_k)
        edited = at >= (torch.full_like(end, n_k - 1) if rows == "last" else end)[:, None]
        edited = edited[:, None, :, None]
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        s = q @ k.transpose(2, 3) * scaling
        s = torch.where(edited, scores(module.layer_idx, s), s) + mask
        a = s.softmax(-1)
        a = torch.where(edited, probs(module.layer_idx, a), a)
        return (a @ v).transpose(1, 2).contiguous(), None

    AttentionInterface.register("explicit_rows", attention)
    AttentionMaskInterface.register("explicit_rows", eager_mask)
    before = view.attn_setting()
    view.set_attn("explicit_rows")
    try:
        yield
    finally:
        view.set_attn(before)


def grown(x: Tensor, like: Tensor) -> Tensor:
    """Columns of the prompt, padded by the generated ones."""
    return torch.nn.functional.pad(x, (0, like.shape[-1] - x.shape[-1]))


def same(layer: int, x: Tensor) -> Tensor:
    return x


def reference(view: View, method: Method, asked: list[Sample], steps: int) -> Tensor:
    """Logits `[B, steps + 1, V]` of the method by `full_eager`."""
    inputs = collate(view, asked)
    image = inputs.image
    assert image is not None
    made = {"pai": _pai, "paint": _paint, "vaf": _vaf, "var": _var}[method.name](view, method, inputs, image)
    scores, probs, handles = made
    try:
        with full_eager(view, method.query_rows, image, scores, probs):
            return forced(view, inputs, steps)
    finally:
        for handle in handles:
            handle.remove()


def _pai(view: View, method: Any, inputs: Inputs, image: Tensor) -> Any:
    def scores(layer: int, s: Tensor) -> Tensor:
        return torch.where(grown(image, s)[:, None, None], s + method.alpha * s.abs(), s)

    return scores, same, []


def _paint(view: View, method: Any, inputs: Inputs, image: Tensor) -> Any:
    gains = torch.zeros(image.shape)
    for b, sample in enumerate(inputs.samples):
        assert view.vision is not None
        first, late = view.vision.attention(sample.tensors, [0, -2])
        local, summary = token_sets(first[:, :, 0, 1:].sum(1), late[:, :, 0, 1:].sum(1), method.ratio)
        for patch, column in enumerate(image[b].nonzero()[:, 0].tolist()):
            gains[b, column] = method.alpha * local[0, patch] + method.beta * summary[0, patch]
    return lambda layer, s: s + grown(gains, s)[:, None, None] * s.abs(), same, []


def _vaf(view: View, method: Any, inputs: Inputs, image: Tensor) -> Any:
    first = image.int().argmax(1, keepdim=True)
    factor = torch.where(image, method.enhance, 1.0)
    factor = torch.where(torch.arange(image.shape[1]) < first, method.suppress, factor)

    def scores(layer: int, s: Tensor) -> Tensor:
        wide = torch.nn.functional.pad(factor, (0, s.shape[-1] - factor.shape[1]), value=1.0)
        return s * wide[:, None, None] if layer == 1 else s  # layers 9..14 of 32 are layer 1 of 4

    return scores, same, []


def _var(view: View, method: Any, inputs: Inputs, image: Tensor) -> Any:
    sinks: dict[int, Tensor] = {}

    def look(layer: int) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            if x.shape[1] > 1:
                ratio = relative(x)
                pads = (inputs.mask == 0).sum(1)
                sinks[layer] = sink_tokens(ratio, given(ratio, EIGHT), pads, method.tau)

        return hook

    def probs(layer: int, a: Tensor) -> Tensor:
        if method.mode == "paper" and layer == view.n_layers - 1:
            return a
        most = 1.0  # of both settings
        q = {"paper": 0.6, "release": 0.4}[method.mode]
        return redistribute(a, grown(image, a), grown(sinks[layer], a), q, most, method.mass)[0]

    handles = [layer.register_forward_pre_hook(look(i), with_kwargs=True) for i, layer in enumerate(view.layers)]
    return same, probs, handles


@acting
def test_row_split_equals_full_eager_attention_in_a_padded_batch_and_in_decode(method: Method) -> None:
    view = tiny_vlm.view("llava")  # grouped heads
    asked = samples(view, 2)
    assert len(asked[0]) != len(asked[1])
    torch.testing.assert_close(logits(view, method, asked), reference(view, method, asked, 2), rtol=1e-4, atol=5e-5)
    assert not torch.allclose(logits(view, method, asked), logits(view, Dense(), asked), atol=1e-2)


@pytest.mark.parametrize("method", [PAI(gamma=None), VAF(), ANY_SINKS], ids=lambda m: m.name)
@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "llava"])
def test_it_does_so_in_the_other_families(method: Method, family: str) -> None:
    view = tiny_vlm.view(family)
    asked = samples(view, 2)
    torch.testing.assert_close(logits(view, method, asked), reference(view, method, asked, 2), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("method", IDENTITY, ids=repr)
def test_the_identity_setting_is_dense_bit_for_bit(method: Method) -> None:
    view = tiny_vlm.view("llava")
    check_identity(view, method)
    asked = samples(view)
    assert torch.equal(logits(view, method, asked), logits(view, Dense(), asked))
    with pytest.raises(NotEngaged, match=method.name):
        prove(view, method, collate(view, asked[:1]))


@acting
def test_a_batch_equals_its_samples_alone_in_either_order_and_nothing_is_left(method: Method) -> None:
    check_request(tiny_vlm.view("llava"), method)


@pytest.mark.parametrize("method", [PAI(gamma=1.1), Paint(gamma=2.0), PAI(gamma=1.1, release_quirk=True)], ids=repr)
def test_guided_answers_do_not_depend_on_the_batch(method: Method) -> None:
    view = tiny_vlm.view("llava")
    asked = samples(view)
    together = answers(view, method, asked)
    assert together == [answers(view, method, [s])[0] for s in asked] != answers(view, Dense(), asked)
    assert together[::-1] == answers(view, method, asked[::-1])


@acting
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_engaged_and_leaves_the_model_as_it_was(method: Method, family: str) -> None:
    view = tiny_vlm.view(family)
    if method.name == "paint" and family not in ("llava", "vipllava"):
        with pytest.raises(UserError, match=r"says nothing about image tokens|one image token for each patch"):
            prove(view, method, collate(view, samples(view, 1)))
        return
    proof = prove(view, method, collate(view, samples(view, 1)))
    assert proof["restored"] and proof["logits_moved"] > 1e-3
    assert set(proof["layers_touched"]) >= set(method.layers(view))
    assert proof["density"] == 1 and not proof["simulated"]  # nothing is left out, so nothing is saved


def test_what_it_did_is_reported() -> None:
    view = tiny_vlm.view("llava")
    one = collate(view, samples(view, 1))
    told = prove(view, ANY_SINKS, one)
    for name in ("sinks", "image_sinks", "heads_selected", "mass_moved"):
        assert told[f"method_{name}"] > 0
    masses = [prove(view, PAI(alpha=alpha, gamma=None), one)["method_image_mass"] for alpha in (0.1, 1.0, 3.0)]
    assert masses == sorted(masses) and 0 < masses[0] < masses[2] < 1
    assert prove(view, Paint(gamma=None), one)["method_local_tokens"] > 0
    assert prove(view, VAF(), one)["method_image_mass"] > 0


def test_no_sinks_is_no_number() -> None:
    """A model without massive activations: the run fails instead of reporting dense's figure as VAR's."""
    view = tiny_vlm.view("llava")
    one = collate(view, samples(view, 1))
    with attach(view, VAR(tau=7.9)) as attached:
        forced(view, attached.begin(one), 1, attached.new_cache())
        assert attached.report()["method_image_sinks"] == 0
    with pytest.raises(NotEngaged, match="no logit moved"):
        prove(view, VAR(tau=7.9), one)


@pytest.mark.parametrize("method", [PAI(gamma=None), Paint(gamma=None)], ids=lambda m: m.name)
def test_the_last_row_only_all_others_are_bit_identical_in_the_prefill(method: Method) -> None:
    view = tiny_vlm.view("llava")
    outs = []
    for m in (Dense(), method):
        with attach(view, m) as attached:
            inputs = attached.begin(collate(view, samples(view, 2)))
            outs.append(view.lm(**inputs.prefill(), past_key_values=attached.new_cache(), use_cache=True).logits)
    real = inputs.mask.bool()
    real[:, -1] = False
    assert torch.equal(outs[0][real], outs[1][real])
    assert not torch.allclose(outs[0][:, -1], outs[1][:, -1], atol=1e-2)


@pytest.mark.parametrize("method", [VAF(), ANY_SINKS], ids=lambda m: m.name)
def test_rows_up_to_the_end_of_the_image_are_bit_identical_in_the_prefill(method: Method) -> None:
    view = tiny_vlm.view("llava")
    outs = []
    for m in (Dense(), method):
        with attach(view, m) as attached:
            inputs = attached.begin(collate(view, samples(view, 2)))
            outs.append(view.lm(**inputs.prefill(), past_key_values=attached.new_cache(), use_cache=True).logits)
    assert inputs.image is not None
    later = inputs.image.flip(1).int().cummax(1).values.flip(1).bool()  # up to the last image token
    assert torch.equal(outs[0][later & inputs.mask.bool()], outs[1][later & inputs.mask.bool()])
    after = ~later & inputs.mask.bool()
    assert ((outs[0] - outs[1]).abs().amax(-1)[after] > 0).all()


@acting
def test_an_exception_restores_the_model(method: Method) -> None:
    view = tiny_vlm.view("llava")
    one, setting = collate(view, samples(view, 1)), view.attn_setting()
    before = forced(view, one, 1)

    def interrupt(*args: object) -> None:
        raise KeyError("inside")

    handle = view.layers[2].register_forward_hook(interrupt)
    with pytest.raises(KeyError, match="inside"), handle, attach(view, method) as attached:
        forced(view, attached.begin(one), 1, attached.new_cache())
    assert view.attn_setting() == setting and torch.equal(forced(view, one, 1), before)


@acting
def test_beams_of_a_batch_are_the_beams_of_each_sample(method: Method) -> None:
    view, beams = tiny_vlm.view("llava"), Decoding(search="beam", num_beams=3)
    asked = samples(view, 2)
    together = answers(view, method, asked, decoding=beams)
    assert together == [answers(view, method, [s], decoding=beams)[0] for s in asked]


def test_guided_beams_follow_the_second_stream() -> None:
    view, beams = tiny_vlm.view("llava"), Decoding(search="beam", num_beams=3)
    asked = samples(view, 2)
    method = PAI(gamma=1.5)
    together = answers(view, method, asked, decoding=beams)
    assert together == [answers(view, method, [s], decoding=beams)[0] for s in asked]
    assert together != answers(view, PAI(gamma=None), asked, decoding=beams)


@pytest.mark.parametrize("method", [PAI(gamma=None), Paint(gamma=None), VAF(), PAI(gamma=1.5)], ids=repr)
def test_prompts_that_share_their_picture_give_the_same_answers(method: Method) -> None:
    view = tiny_vlm.view("llava")
    picture = tiny_vlm.images(1)[0]
    asked = [
        sample_of(view, Draft(f"q{i}", text, (picture,), image_key="one"))
        for i, text in enumerate(("A cat?", "Any dogs?"))
    ]
    assert method.prefix_safe
    results = []
    for share in (False, True):
        with attach(view, method) as attached:
            results.append([g.ids for g in generate(view, asked, [4, 4], attached, share=share)])
    assert results[0] == results[1]


def test_the_guided_logits_equal_two_streams_computed_from_scratch() -> None:
    view, method = tiny_vlm.view("llava"), PAI(alpha=0.5, gamma=1.5, cut=0.1)
    asked = samples(view, 2)
    blind = [
        Sample(tuple(i for i in s.ids if i != view.vision.image_token_id), replace(s.draft, images=())) for s in asked
    ]  # type: ignore[union-attr]
    c = logits(view, PAI(alpha=0.5, gamma=None), asked).log_softmax(-1)
    u = forced(view, collate(view, blind), 2).log_softmax(-1)
    torch.testing.assert_close(logits(view, method, asked), pai_guidance(c, u, 1.5, 0.1), rtol=1e-4, atol=1e-4)


def test_with_the_quirk_the_first_token_ignores_the_boost_and_the_second_sees_it() -> None:
    view = tiny_vlm.view("llava")
    asked = samples(view, 2)
    quirk = logits(view, PAI(gamma=1.5, release_quirk=True), asked)
    bare, whole = (logits(view, PAI(alpha=alpha, gamma=1.5), asked) for alpha in (0.0, 0.5))
    assert torch.equal(quirk[:, 0], bare[:, 0]) and not torch.equal(quirk[:, 0], whole[:, 0])
    assert not torch.equal(quirk[:, 1], bare[:, 1])


@acting
def test_a_task_without_pictures_is_refused(method: Method) -> None:
    view = tiny_vlm.view("llava")
    with pytest.raises(UserError, match="works on pictures"):
        answers(view, method, [sample_of(view, Draft("t", "No picture here."))])
