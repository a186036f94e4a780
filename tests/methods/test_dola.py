"""DoLa against explicit float64 formulas, its candidates, and its layers on real models."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.asking.decoding import Decoding
from harness.asking.generation import generate
from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.contracts.inputs import Draft
from harness.errors import UserError
from harness.models.inputs import sample_of
from methods.contrast.dola import DoLa, bucket, contrast_layers, divergence
from tests import tiny, tiny_vlm


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def rows(seed: int) -> Tensor:
    return 3 * torch.randn(3, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_candidates_are_the_published_ones_and_scale_with_the_depth() -> None:
    assert bucket(32, "low") == tuple(range(0, 16, 2)) and bucket(32, "high") == tuple(range(16, 32, 2))
    assert bucket(40, "low") == tuple(range(0, 20, 2)) and bucket(40, "high") == tuple(range(20, 40, 2))
    assert bucket(22, "low") == (0, 2, 4, 6, 8, 10) and bucket(22, "high") == (12, 14, 16, 18, 20)
    assert bucket(4, "low") == (0, 1) and bucket(4, "high") == (2, 3)
    assert bucket(1, "low") == bucket(1, "high") == (0,)


@pytest.mark.parametrize("mode", ["paper", "release"])
def test_the_divergence_is_that_of_the_paper_or_of_its_code(mode: str) -> None:
    a, b = rows(0), rows(1)
    p, q = a.softmax(-1), b.softmax(-1)
    m = (p + q) / 2
    if mode == "paper":
        expected = 0.5 * ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1))
        assert (expected <= math.log(2)).all()
    else:  # kl_div(log p, M) is KL(M || p); its mean over the vocabulary differs by a constant factor
        kl = torch.nn.functional.kl_div
        halves = [kl(x.log_softmax(-1), m, reduction="none").mean(-1) for x in (a, b)]
        expected = 20 * 0.5 * (halves[0] + halves[1])
    torch.testing.assert_close(divergence(a, b, mode), expected)


def test_the_contrast_is_zero_for_a_layer_that_says_the_same_and_the_cut_keeps_a_token() -> None:
    a, b = rows(2), rows(3)
    same = contrast_layers(a, a, 0.1)
    kept = a.softmax(-1) >= 0.1 * a.softmax(-1).amax(-1, keepdim=True)
    assert (same[kept] == 0).all() and same[~kept].isinf().all()
    assert contrast_layers(a, b, 1.0).isfinite().sum(-1).eq(1).all()
    torch.testing.assert_close(contrast_layers(a, b, 0.0), (a.softmax(-1) / b.softmax(-1)).log())


def early(view, hidden: tuple[Tensor, ...], k: int) -> Tensor:
    """`[B, n, V]`: a hidden state of the library read by the head."""
    return torch.nn.functional.linear(hidden[k], view.lm_head.weight)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("mode", ["paper", "release"])
def test_the_layers_are_the_hidden_states_of_the_library(family: str, mode: str) -> None:
    view, ids, method = tiny.view(family), tiny.ids(12, 2), DoLa(candidates=(0, 1, 2), mode=mode, share="row")  # type: ignore[arg-type]
    plain = view.model(ids, output_hidden_states=True)
    with attach(view, method):
        out = view.model(ids).logits
    for b in range(2):
        for i in range(12):
            z = plain.logits[b, i]
            others = [early(view, plain.hidden_states, k)[b, i] for k in (0, 1, 2)]
            k = max((0, 1, 2), key=lambda k: float(divergence(z, others[k], mode)))
            torch.testing.assert_close(out[b, i], contrast_layers(z, others[k], 0.1), rtol=1e-4, atol=1e-4)


def test_the_last_layer_against_itself_contrasts_nothing() -> None:
    view, ids = tiny.view("llama"), tiny.ids(12)
    with attach(view, DoLa(candidates=(view.n_layers,))):
        out = view.model(ids).logits
    assert out.isfinite().any(-1).all() and (out[out.isfinite()] == 0).all()


def test_beams_of_a_sample_share_the_layer() -> None:
    view, prompts = tiny.fresh_view("llama"), [tiny.ids(9)[0].tolist(), tiny.ids(14)[0].tolist()]
    view.__dict__["stop_ids"], view.__dict__["pad_id"] = [], 0
    chosen = []

    class Watch(DoLa):
        def logits(self, ctx, z):  # type: ignore[no-untyped-def]
            ctx.count = lambda name, value: chosen.append(value) if name == "layer" else None
            return super().logits(ctx, z)

    method = Watch(candidates=(0, 1, 2))
    with attach(view, method) as attached:
        inputs = collate_ids(view, prompts)
        attached.begin(inputs)
        view.lm(**inputs.repeat(3).prefill(), logits_to_keep=1)
    assert chosen[0].shape == (6, 1)
    assert len(set(chosen[0][:3].flatten().tolist())) == len(set(chosen[0][3:].flatten().tolist())) == 1


def collate_ids(view, prompts: list[list[int]]):  # type: ignore[no-untyped-def]
    from harness.models.inputs import Inputs, Sample, pad_left

    ids, mask = pad_left(prompts, 0)
    return Inputs(tuple(Sample(tuple(p)) for p in prompts), ids, mask)


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_a_batch_gives_what_each_sample_gives_alone(search: str) -> None:
    view = tiny_vlm.view("llava")
    samples = [
        sample_of(view, Draft(str(i), q, (p,))) for i, (q, p) in enumerate(zip("ab", tiny_vlm.images(2), strict=True))
    ]
    samples.append(sample_of(view, Draft("2", "and no picture at all?")))
    decoding = Decoding(search=search, num_beams=3)  # type: ignore[arg-type]

    def run(which: list[int]) -> list[tuple[int, ...]]:
        with attach(view, DoLa()) as attached:
            out = generate(view, [samples[i] for i in which], [5] * len(which), attached=attached, decoding=decoding)
        return [g.ids for g in out]

    together = run([0, 1, 2])
    assert together == [run([i])[0] for i in range(3)] == run([2, 1, 0])[::-1]


@pytest.mark.parametrize("method", [DoLa(), DoLa(bucket="high"), DoLa(mode="paper")], ids=repr)
def test_the_method_is_engaged_and_leaves_nothing_behind(method: DoLa) -> None:
    proof = prove(tiny.view("llama"), method, tiny.ids(30))
    assert proof["logits_moved"] > 0.01 and proof["restored"] and proof["method_cut"] > 0
    assert min(method.chosen_from(3)) <= proof["method_layer"] <= max(method.chosen_from(3))


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(UserError, match="hidden state 9"):
        DoLa(candidates=(9,)).check(tiny.view("llama"))
    for method in (
        DoLa(bucket="all"),
        DoLa(candidates=()),
        DoLa(relative_top=2),
        DoLa(share="batch"),
        DoLa(mode="code"),
    ):  # type: ignore[arg-type]
        with pytest.raises(UserError, match=r"method\.dola\.\w+ is "):
            method.validate()
