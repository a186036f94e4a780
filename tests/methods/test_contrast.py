"""The two-stream methods: formulas against float64, the noise schedule, the second stream against recomputation."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.asking.decoding import Decoding
from harness.asking.generation import generate
from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.contracts.call import Call
from harness.contracts.inputs import Draft
from harness.errors import UserError
from harness.models.inputs import Sample, collate, sample_of, without_image
from harness.models.view import View
from methods.contrast.icd import ICD, PREFIX, disturbed, has_system_role
from methods.contrast.m3id import M3ID
from methods.contrast.two_stream import TwoStream, contrast, cut, image_gain, pai_guidance, plausible
from methods.contrast.vcd import STEPS, VCD, signal
from methods.contrast.vdd import VDD, with_unknown
from tests import tiny_vlm

FAMILIES = ("llava", "llava_next", "qwen2_vl")
METHODS: tuple[TwoStream, ...] = (VCD(), ICD(), VDD(), M3ID(lam=0.5))
QUESTIONS = ("is there a cat?", "what colour is the thing on the left?")


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@cache
def samples(family: str) -> tuple[Sample, ...]:
    """Two requests of different length."""
    pictures = zip(QUESTIONS, tiny_vlm.images(2), strict=True)
    return tuple(sample_of(view(family), Draft(f"id{i}", q, (p,))) for i, (q, p) in enumerate(pictures))


@cache
def view(family: str) -> View:
    """A view whose answers never stop by themselves."""
    made = tiny_vlm.fresh_view(family)
    made.__dict__["stop_ids"] = []
    return made


def rows(seed: int, n: int = 3, vocabulary: int = 20) -> Tensor:
    return 3 * torch.randn(n, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def call(step: int = 0) -> Call:
    return Call(view=None, layer=4, phase="decode", q_offset=0, n_pad=torch.zeros(3), step=step)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------------- formulas


def test_plausible_tokens_have_a_share_of_the_largest_probability() -> None:
    z = rows(0)
    p = z.softmax(-1)
    assert torch.equal(plausible(z, 0.1), p >= 0.1 * p.amax(-1, keepdim=True))
    assert plausible(z, 0).all() and plausible(z, 1).sum(-1).eq(1).all()


@pytest.mark.parametrize("method", [VCD(alpha=0.7, beta=0.2), ICD(alpha=0.7, beta=0.2), VDD(alpha=0.7, beta=0.2)])
def test_the_contrast_is_that_of_the_papers(method: TwoStream) -> None:
    z, u = rows(1), rows(2)
    out = method.combine(call(), z, u)
    p = z.softmax(-1)
    for b in range(3):
        for v in range(20):
            expected = 1.7 * z[b, v] - 0.7 * u[b, v] if p[b, v] >= 0.2 * p[b].max() else -math.inf
            assert float(out[b, v]) == pytest.approx(float(expected))


def test_the_image_gain_of_m3id_grows_with_the_answer() -> None:
    z, u = rows(3), rows(4)
    c, d = z.softmax(-1).log(), u.softmax(-1).log()
    for step in (0, 1, 30):
        g = math.exp(-0.02 * (step + 1))
        expected = c + (1 - g) / g * (c - d)
        expected[c.exp() < 0.1 * c.exp().amax(-1, keepdim=True)] = -math.inf
        torch.testing.assert_close(M3ID().combine(call(step), z, u), expected)
    torch.testing.assert_close(image_gain(c, d, 3, 0.0), c)


def test_the_gate_of_m3id_corrects_unsure_rows_only() -> None:
    z, u = rows(5), rows(6)
    sure = z.softmax(-1).amax(-1)
    gate = float(sure.median()) + 1e-9
    out = M3ID(gate=gate, cut=0).combine(call(), z, u)
    free = M3ID(cut=0).combine(call(), z, u)
    for b in range(3):
        torch.testing.assert_close(out[b], free[b] if sure[b] < gate else z[b].log_softmax(-1))


def test_pai_guidance_is_classifier_free_guidance_with_a_cut() -> None:
    c, u = rows(7).log_softmax(-1), rows(8).log_softmax(-1)
    expected = 1.1 * (c - u) + u
    expected[c < c.amax(-1, keepdim=True) + math.log(0.1)] = -math.inf
    torch.testing.assert_close(pai_guidance(c, u, 1.1, 0.1), expected)
    torch.testing.assert_close(pai_guidance(c, u, 1.0, 0.0), c)


def test_zero_strength_without_a_cut_is_the_identity() -> None:
    z, u = rows(9), rows(10)
    assert torch.equal(cut(contrast(z, u, 0), z, 0), z)
    assert torch.equal(contrast(z, z, 0.0), z)


def test_streams_that_agree_leave_the_kept_tokens_alone() -> None:
    z = rows(11)
    out = VCD().combine(call(), z, z)
    kept = plausible(z, 0.1)
    torch.testing.assert_close(out[kept], z[kept])
    assert out[~kept].isinf().all() and kept.any(-1).all()


# -------------------------------------------------------------------------------------------------------------- noise


def test_the_schedule_has_the_published_constants() -> None:
    assert signal(500) == pytest.approx(0.7448, abs=5e-5)
    assert signal(999) == pytest.approx(0.0812, abs=5e-5)
    assert math.sqrt(signal(500)) == pytest.approx(0.8630, abs=5e-5)
    assert math.sqrt(1 - signal(500)) == pytest.approx(0.5052, abs=5e-5)
    betas = torch.sigmoid(torch.linspace(-6, 6, STEPS, dtype=torch.float64)) * (0.005 - 1e-5) + 1e-5
    for step in (0, 17, 500, 999):
        assert signal(step) == pytest.approx(float((1 - betas).cumprod(0)[step]), rel=1e-12)


def test_the_noise_depends_on_the_sample_and_the_seed_alone() -> None:
    x = torch.ones(40_000)
    one, again, other = (VCD().noisy(Draft(name, ""), x) for name in ("a", "a", "b"))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert not torch.equal(one, VCD(seed=1).noisy(Draft("a", ""), x))
    noise = (one - math.sqrt(signal(500))) / math.sqrt(1 - signal(500))
    assert abs(float(noise.mean())) < 0.02 and float(noise.std()) == pytest.approx(1, abs=0.02)
    assert VCD().noisy(Draft("a", ""), x.half()).dtype == torch.float16


# ------------------------------------------------------------------------------------------------------- other prompts


def test_the_disturbing_instruction_is_the_system_message_or_stands_before_the_question() -> None:
    chat = (
        {"role": "system", "content": "be nice"},
        {"role": "user", "content": "a?"},
        {"role": "user", "content": "b?"},
    )
    instruction = {"role": "system", "content": "X"}
    assert disturbed(Draft("i", chat), "X", True).prompt == (instruction, chat[1], chat[2])
    assert disturbed(Draft("i", "a?"), "X", True).prompt == (instruction, {"role": "user", "content": "a?"})
    assert disturbed(Draft("i", "a?"), "X", False).prompt == "X a?"
    before = disturbed(Draft("i", chat), "X", False).prompt
    assert before == (chat[0], {"role": "user", "content": "X a?"}, chat[2]) and chat[1]["content"] == "a?"


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_the_instruction_reaches_the_second_stream_with_the_picture(family: str) -> None:
    model = view(family)
    assert has_system_role(model)
    with attach(model, ICD()) as attached:
        inputs = collate(model, samples(family))
        attached.begin(inputs)
        (other,) = ICD().negatives(attached.request)
    assert other.image is not None and torch.equal(other.image.sum(1), inputs.image.sum(1))  # type: ignore[union-attr]
    text = model.tokenizer.decode(other.ids[0])
    assert PREFIX in text and QUESTIONS[0] in text and "helpful" not in text


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_an_unknown_token_stands_where_the_picture_was(family: str) -> None:
    model = view(family)
    with pytest.raises(UserError, match="no unknown token"):
        VDD(mode="both").check(model)
    with unknown_token(model) as unknown, attach(model, VDD(mode="both")) as attached:
        attached.begin(collate(model, samples(family)))
        other = with_unknown(attached.request, attached.request.without_image())
    for b, sample in enumerate(samples(family)):
        expected = blank(model, sample, unknown).ids
        n = len(expected)
        assert tuple(other.ids[b, -n:].tolist()) == expected and other.mask[b].sum() == n
        assert not other.mask[b, :-n].any() and other.mask.shape == other.ids.shape
        if other.positions is not None:
            assert (other.positions[..., b, -n:] == torch.arange(n)).all()


def blank(model: View, sample: Sample, unknown: int) -> Sample:
    """The prompt with one unknown token for the picture."""
    ids = list(without_image(model, sample).ids)
    ids.insert(sample.ids.index(model.vision.image_token_id), unknown)  # type: ignore[union-attr]
    return Sample(tuple(ids))


class unknown_token:
    """The tokenizer with an unknown token, inside."""

    def __init__(self, model: View) -> None:
        self.tokenizer = model.tokenizer

    def __enter__(self) -> int:
        self.tokenizer.unk_token = "<|video_pad|>"
        return int(self.tokenizer.unk_token_id)

    def __exit__(self, *_: Any) -> None:
        self.tokenizer.unk_token = None


# ------------------------------------------------------------------------------------------------------- on real models


def answer(family: str, method: TwoStream, which: list[int], n: int = 5, **decoding: Any) -> list[tuple[int, ...]]:
    model = view(family)
    chosen = [samples(family)[i] for i in which]
    with attach(model, method) as attached:
        out = generate(model, chosen, [n] * len(chosen), attached=attached, decoding=Decoding(**decoding))
    return [g.ids for g in out]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_the_method_is_engaged_and_leaves_nothing_behind(method: TwoStream, family: str) -> None:
    proof = prove(view(family), method, collate(view(family), samples(family)[:1]), steps=3)
    assert proof["logits_moved"] > 0.01 and proof["restored"]
    assert proof["method_cut"] > 0 and proof["method_divergence"] > 0


NEUTRAL = (VCD(alpha=0, beta=0), ICD(alpha=0, beta=0), VDD(alpha=0, beta=0), M3ID(lam=0, cut=0))


@pytest.mark.parametrize("method", NEUTRAL, ids=lambda m: m.name)
@pytest.mark.parametrize("search", ["greedy", "beam", "sample"])
def test_the_identity_setting_equals_dense(method: TwoStream, search: str) -> None:
    model = view("llava")
    dense = generate(model, samples("llava"), [5, 5], decoding=Decoding(search=search, num_beams=3))  # type: ignore[arg-type]
    assert answer("llava", method, [0, 1], search=search, num_beams=3) == [g.ids for g in dense]


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_batch_gives_what_each_sample_gives_alone(method: TwoStream, family: str) -> None:
    together = answer(family, method, [0, 1])
    assert together == answer(family, method, [1, 0])[::-1]
    assert together == [answer(family, method, [i])[0] for i in range(2)]


def from_scratch(model: View, sample: Sample, tokens: list[int]) -> Tensor:
    """Logits `[V]` (float32) behind the prompt and `tokens`, in one forward without a cache."""
    inputs = collate(model, [replace(sample, ids=(*sample.ids, *tokens))])
    return model.lm(**inputs.prefill(), logits_to_keep=1).logits[0, -1].float()


def negative(model: View, method: TwoStream, sample: Sample) -> Sample:
    """The prompt of the second stream, made without the engine."""
    if isinstance(method, VCD):
        key = model.vision.pixel_key  # type: ignore[union-attr]
        pixels = method.noisy(sample.draft, sample.tensors[key])
        return replace(sample, tensors=dict(sample.tensors) | {key: pixels}, draft=replace(sample.draft, image_key=""))
    if isinstance(method, ICD):
        return sample_of(model, disturbed(sample.draft, method.prefix, has_system_role(model)))
    return without_image(model, sample)


def beam_search(model: View, method: TwoStream, sample: Sample, beams: int, n: int) -> list[int]:
    """The best of `beams` answers of `n` tokens; both streams are computed from scratch for every token."""
    other = negative(model, method, sample)
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    for step in range(n):
        grown = []
        for score, tokens in alive:
            z, u = (from_scratch(model, s, tokens)[None] for s in (sample, other))
            log_p = method.combine(call(step), z, u)[0].log_softmax(-1)
            best = log_p.topk(beams)
            grown += [(score + float(p), [*tokens, int(t)]) for p, t in zip(best.values, best.indices, strict=True)]
        alive = sorted(grown, reverse=True)[:beams]
    return alive[0][1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize("beams", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_second_stream_equals_one_computed_from_scratch_for_every_token(
    method: TwoStream, family: str, beams: int
) -> None:
    search = {"search": "beam", "num_beams": beams} if beams > 1 else {}
    together = answer(family, method, [0, 1], n=4, **search)
    for i in range(2):
        assert list(together[i]) == beam_search(view(family), method, samples(family)[i], beams, 4)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_both_negatives_are_averaged(family: str) -> None:
    model, method, tokens = view(family), VDD(mode="both", beta=0), [40, 41]
    with unknown_token(model) as unknown, attach(model, method) as attached:
        inputs = attached.begin(collate(model, samples(family)))
        out = model.lm(**inputs.prefill(), past_key_values=attached.new_cache(), logits_to_keep=1)
        logits = [out.logits[:, -1]]
        for step, token in enumerate(tokens):
            given = {"input_ids": torch.full((2, 1), token)} | inputs.further(1, step)
            out = model.lm(**given, past_key_values=out.past_key_values)
            logits.append(out.logits[:, -1])
    for b, sample in enumerate(samples(family)):
        for n, found in enumerate(logits):
            seen = from_scratch(model, sample, tokens[:n])
            blind = from_scratch(model, without_image(model, sample), tokens[:n])
            unknowing = from_scratch(model, blank(model, sample, unknown), tokens[:n])
            torch.testing.assert_close(found[b], 2 * seen - (blind + unknowing) / 2, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_prompts_may_share_the_beginning_of_the_main_stream(method: TwoStream) -> None:
    model, picture = view("llava"), tiny_vlm.images(1)[0]
    asked = [sample_of(model, Draft(q, q, (picture,), image_key="same")) for q in QUESTIONS]
    with attach(model, method) as attached:
        one, other = (generate(model, asked, [5, 5], attached=attached, share=share) for share in (False, True))
    assert [g.ids for g in one] == [g.ids for g in other]


def test_a_task_without_pictures_is_refused() -> None:
    model = view("llava")
    with pytest.raises(UserError, match="pictures"), attach(model, VCD()) as attached:
        generate(model, [model.prompt_ids("hello")], [2], attached=attached)


@pytest.mark.parametrize(
    "method",
    [VCD(alpha=-1), VCD(beta=2), VCD(noise_step=1000), ICD(prefix=" "), ICD(place="end"), VDD(mode="none"),  # type: ignore[arg-type]
     VDD(beta=-0.1), M3ID(lam=-1), M3ID(cut=2), M3ID(gate=0)],
    ids=repr,
)  # fmt: skip
def test_senseless_parameters_are_refused_with_the_option_named(method: TwoStream) -> None:
    with pytest.raises(UserError, match=rf"method\.{method.name}\.\w+ is "):
        method.validate()
