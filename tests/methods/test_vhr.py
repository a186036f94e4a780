"""VHR against an explicit loop over heads, then on a tiny model."""

from __future__ import annotations

import statistics
from types import SimpleNamespace

import pytest
import torch

from harness.asking.decoding import Decoding
from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.models.inputs import collate, without_image
from methods.activations.vhr import HeadReinforcement, above_median, head_divergence, reinforced
from tests import tiny_vlm
from tests.methods.pictured import Seen, answers, before_and_after, check_identity, check_request, samples


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("heads", [4, 7, 32])
@pytest.mark.parametrize("seed", range(4))
def test_the_choice_is_the_papers_head_by_head(heads: int, seed: int) -> None:
    blind, seen = random(2, heads, 8, seed=seed), random(2, heads, 8, seed=seed + 10)
    blind[:, 1] *= 9  # a head that is large without the image, and moves with it: an outlier
    chosen = above_median(head_divergence(seen, blind), blind)
    for b in range(2):
        vhd = [float((seen[b, i] - blind[b, i]).square().sum() ** 0.5) for i in range(heads)]
        alone = [float(blind[b, i].square().sum()) for i in range(heads)]
        bounds = [statistics.fmean(x) + statistics.pstdev(x) for x in (vhd, alone)]
        vhd = [0 if d > bounds[0] and a > bounds[1] else d for d, a in zip(vhd, alone, strict=True)]
        assert vhd[1] == 0
        assert chosen[b].tolist() == [d > statistics.median(vhd) for d in vhd]
        assert int(chosen[b].sum()) == heads // 2 and not chosen[b, 1]
    assert above_median(head_divergence(seen, blind), blind, outliers=False)[:, 1].all()


def test_layers_are_the_published_ones_at_32_and_a_share_elsewhere() -> None:
    assert reinforced(32, 0.4375, True) == [1, *range(18, 32)]
    assert reinforced(32, 0.5625, True) == [1, *range(14, 32)]
    assert reinforced(6, 0.4375, True) == [1, 3, 4, 5]
    assert reinforced(6, 0.0, False) == []


@pytest.mark.parametrize(
    ("family", "expected"),
    [("llava", [1, *range(18, 32)]), ("llava_next", [1, *range(18, 32)]), ("instructblip", [*range(14, 32)])],
)
def test_null_is_what_the_paper_has_for_the_family(family: str, expected: list[int]) -> None:
    view = SimpleNamespace(n_layers=32, family=family)
    assert HeadReinforcement().layers(view) == expected  # type: ignore[arg-type]
    assert HeadReinforcement(last=0.0, second=True).layers(view) == [1]  # type: ignore[arg-type]
    assert HeadReinforcement(second=True).layers(view) == sorted({1, *expected})  # type: ignore[arg-type]


# ---- on a model


def test_alpha_1_equals_dense() -> None:
    check_identity(tiny_vlm.view("llava"), HeadReinforcement(alpha=1))


def test_a_batch_equals_its_samples_in_either_order() -> None:
    check_request(tiny_vlm.view("llava"), HeadReinforcement())


@pytest.mark.parametrize("family", tiny_vlm.FAMILIES)
def test_it_is_engaged_in_every_family(family: str) -> None:
    view = tiny_vlm.view(family)
    report = prove(view, HeadReinforcement(), collate(view, samples(view, 1)))
    touched = [2, 3] if family == "instructblip" else [1, 2, 3]
    assert report["layers_touched"] == touched and report["method_heads"] == 0.5
    assert report["method_divergence"] > 0


def test_exactly_the_chosen_slices_change_in_all_positions_and_all_steps() -> None:
    view, method = tiny_vlm.view("llava"), HeadReinforcement(alpha=1.5)
    asked, modules = samples(view), {i: view.o_proj(i) for i in range(4)}
    old, new = before_and_after(view, method, modules, asked, steps=2, inputs=True)
    assert all(torch.equal(a, b) for a, b in zip(old[0], new[0], strict=True))  # not reinforced
    for i in (1, 2, 3):
        chosen = None
        for before, after in zip(old[i], new[i], strict=True):
            before, after = (x.unflatten(-1, (4, -1)) for x in (before, after))
            changed = (before != after).flatten(3).any(-1).any(1)  # [B, H]
            chosen = changed if chosen is None else chosen
            assert torch.equal(changed, chosen) and (chosen.sum(1) == 2).all()
            scale = torch.where(chosen, 1.5, 1.0)[:, None, :, None]
            assert torch.equal(after, before * scale)


@torch.no_grad()
def test_heads_are_compared_with_the_plain_text_only_run() -> None:
    view = tiny_vlm.view("llava")
    [sample] = samples(view, 1)
    seen = Seen({2: view.o_proj(2)}, inputs=True)
    view.lm(**collate(view, [without_image(view, sample)]).prefill())
    seen.remove()
    with attach(view, HeadReinforcement()) as attached:
        attached.begin(collate(view, [sample]))
        blind = attached.request.state["blind"]
    torch.testing.assert_close(blind[0, 2].flatten(), seen.calls[2][0][0, -1])


def test_beams_carry_the_heads_of_their_sample() -> None:
    view, beams = tiny_vlm.view("llava"), Decoding(search="beam", num_beams=3)
    asked, method = samples(view), HeadReinforcement()
    together = answers(view, method, asked, decoding=beams)
    assert together == [answers(view, method, [s], decoding=beams)[0] for s in asked]
