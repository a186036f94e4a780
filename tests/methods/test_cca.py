"""CCA: rings, positions and masks against explicit loops, then on a tiny model."""

from __future__ import annotations

import pytest
import torch

from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.contracts.inputs import Draft
from harness.errors import UserError
from harness.models.inputs import collate, sample_of
from harness.models.view import View
from methods.positions.cca import ConcentricCausal, positions, ring_pairs, rings
from tests import tiny_vlm
from tests.methods.pictured import answers, check_request, samples


@pytest.mark.parametrize(("h", "w"), [(2, 2), (4, 4), (24, 24), (3, 5), (6, 4), (1, 7)])
def test_rings_count_from_the_border(h: int, w: int) -> None:
    found = rings(h, w).view(h, w)
    for i in range(h):
        for j in range(w):
            assert found[i, j] == min(i, j, h - 1 - i, w - 1 - j)


def layout(before: int, h: int, w: int, after: int, pad: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ring index and attention mask of one sample: padding, text, image, text."""
    text = lambda n: torch.full((n,), -1)  # noqa: E731
    ring = torch.cat((text(pad + before), rings(h, w), text(after)))
    mask = torch.cat((torch.zeros(pad, dtype=torch.long), torch.ones(before + h * w + after, dtype=torch.long)))
    return ring[None], mask[None]


@pytest.mark.parametrize("pad", [0, 3])
def test_positions_by_hand_and_the_rule_of_the_next_token(pad: int) -> None:
    g, before, after = 4, 5, 6
    ring, mask = layout(before, g, g, after, pad)
    found = positions(ring, mask)[0, pad:].tolist()
    explicit = list(range(before))
    explicit += [before + min(i, j, g - 1 - i, g - 1 - j) for i in range(g) for j in range(g)]
    explicit += [before + g // 2 + n for n in range(after)]
    assert found == explicit
    t = before + g * g + after  # column of the first new token
    assert found[-1] + 1 == t - g * g + g // 2


def test_a_batch_holds_the_positions_of_each_of_its_samples() -> None:
    one, two = layout(2, 4, 4, 5), layout(4, 2, 4, 3, pad=8)
    both = positions(torch.cat((one[0], two[0])), torch.cat((one[1], two[1])))
    assert torch.equal(both[:1], positions(*one)) and torch.equal(both[1:], positions(*two))


def test_a_ring_sees_itself_and_what_is_outside_of_it() -> None:
    ring, _ = layout(1, 4, 4, 1)
    among, inward = ring_pairs(ring)
    border, corner, centre, other = 1 + 1, 1 + 15, 1 + 5, 1 + 10
    assert among.sum() == 16 * 16
    assert inward[0, 0, border, corner] and inward[0, 0, corner, border]  # both directions inside the border
    assert not inward[0, 0, border, centre] and inward[0, 0, centre, border]
    assert inward[0, 0, centre, other] and inward[0, 0, other, centre]
    assert not among[0, 0, 0].any() and not among[0, 0, -1].any() and not among[0, 0, :, -1].any()


# ---- on a model


@pytest.mark.parametrize("parts", ["both", "positions", "mask"])
def test_a_batch_equals_its_samples_in_either_order(parts: str) -> None:
    check_request(tiny_vlm.view("llava"), ConcentricCausal(parts=parts))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["llava", "vipllava", "qwen2_vl", "qwen2_5_vl"])
def test_it_is_engaged_where_there_is_one_grid(family: str) -> None:
    view, parts = tiny_vlm.view(family), "mask" if family.startswith("qwen") else "both"
    report = prove(view, ConcentricCausal(parts=parts), collate(view, samples(view, 1)))  # type: ignore[arg-type]
    assert report["layers_touched"] == [0, 1, 2, 3] and report["method_rings"] >= 1


def explicit(view: View, ids: torch.Tensor) -> torch.Tensor:
    """Logits `[T, V]` of the library's decoder with ring positions and a 4-D mask, new tokens included in `ids`."""
    [sample] = samples(view, 1)
    inputs, n = collate(view, [sample]), len(ids) - len(sample.ids)
    embeds = torch.cat((inputs.embeds, view.lm.get_input_embeddings()(ids[None, len(ids) - n :])), dim=1)
    ring = torch.full((len(ids),), -1)
    ring[: len(sample.ids)][inputs.image[0]] = rings(4, 4)
    s, g = int((ring >= 0).int().argmax()), 4
    place = torch.tensor(
        [t if t < s else s + int(ring[t]) if ring[t] >= 0 else t - g * g + g // 2 for t in range(len(ids))]
    )
    shown = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    for i in range(len(ids)):
        for j in range(len(ids)):
            if ring[i] >= 0 and ring[j] >= 0:
                shown[i, j] = ring[j] <= ring[i]
    out = view.model.model.language_model(
        inputs_embeds=embeds, attention_mask=shown[None, None], position_ids=place[None]
    )
    return view.lm_head(out.last_hidden_state)[0]


@torch.no_grad()
def test_prefill_and_decode_equal_the_librarys_decoder_with_explicit_positions_and_mask() -> None:
    view = tiny_vlm.view("llava")
    [sample] = samples(view, 1)
    with attach(view, ConcentricCausal()) as attached:
        prefill = view.lm(**attached.begin(collate(view, [sample])).prefill()).logits[0]
    torch.testing.assert_close(prefill, explicit(view, torch.tensor(sample.ids)), atol=2e-5, rtol=1e-4)
    [new] = answers(view, ConcentricCausal(), [sample], new=5)
    for n in range(5):
        ids = torch.tensor((*sample.ids, *new[:n]))
        assert int(explicit(view, ids)[-1].argmax()) == new[n]


def test_what_has_no_single_grid_or_its_own_positions_is_refused() -> None:
    for family in ("instructblip", "llava_next"):
        with pytest.raises(UserError, match="cannot serve model"):
            ConcentricCausal().check(tiny_vlm.view(family))
    with pytest.raises(UserError, match=r"parts=mask"):
        ConcentricCausal().check(tiny_vlm.view("qwen2_vl"))
    view = tiny_vlm.view("llava")
    two = sample_of(view, Draft("two", "Which?", tuple(tiny_vlm.images(2))))
    with pytest.raises(UserError, match="one picture"), attach(view, ConcentricCausal()) as attached:
        attached.begin(collate(view, [two]))


def test_its_title_says_that_it_wants_training() -> None:
    assert "untrained" in ConcentricCausal.title and not ConcentricCausal().trained
