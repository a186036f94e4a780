"""CARVE step by step: contrast, map, regions, cut; then whole, on a tiny model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from harness.asking.generation import generate
from harness.asking.transform import transformed
from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.contracts.inputs import Draft
from harness.errors import UserError
from harness.models.inputs import collate, sample_of
from methods.inputs.carve import Carve, Tap, cut, ending_in, fuse, last_said, regions, spread
from methods.inputs.grid import shown_box
from tests import tiny_vlm
from tests.methods.pictured import samples


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize("steps", ["start", "end", "full"])
def test_contrast_is_the_weighted_sum_of_quotients(steps: str) -> None:
    q, g, least = numbers(3, 2, 5), numbers(3, 2, 5, seed=1), 0.01
    explicit = np.zeros(5)
    for t in {"start": [0], "end": [2], "full": range(3)}[steps]:
        for layer in range(2):
            for j in range(5):
                explicit[j] += (t + 1 if steps == "full" else 1) * q[t, layer, j] / (g[t, layer, j] + least)
    np.testing.assert_allclose(fuse(list(q), list(g), steps, least), explicit)


def test_the_map_lies_where_the_model_looks() -> None:
    grid = np.array([[0.0, 1.0], [2.0, 3.0]])
    wide = spread(grid, (40, 20), (10, 0, 30, 20))
    assert wide.shape == (20, 40) and np.isneginf(wide[:, :10]).all() and np.isneginf(wide[:, 30:]).all()
    assert wide[0, 10] == 0 and wide[0, 29] == 1 and wide[19, 10] == 2 and wide[19, 29] == 3


def test_the_map_of_a_padded_picture_is_cut_to_it() -> None:
    wide = spread(np.arange(16.0).reshape(4, 4), (40, 20), (0, -10, 40, 30))
    assert wide.shape == (20, 40) and wide.min() == pytest.approx(2.2) and wide.max() == pytest.approx(12.8)


def test_the_best_regions_stay() -> None:
    scores = np.zeros((10, 10))
    scores[1:3, 1:3], scores[6:9, 6:9], scores[0, 9], scores[9, 0] = 5, 3, 4, 2  # sums 20, 27, 4, 2
    kept = regions(scores, share=0.15, most=2)
    assert kept[1:3, 1:3].all() and kept[6:9, 6:9].all() and kept.sum() == 4 + 9
    assert regions(scores, share=0.15, most=1).sum() == 9
    assert regions(scores, share=0.15, most=None, at_least=True).sum() == 4 + 9 + 1  # three is a minimum
    assert regions(scores, share=1.0, most=1).all()


def test_diagonal_neighbours_are_two_regions() -> None:
    scores = np.eye(4)[:, ::-1] * np.array([1, 2, 3, 4])
    assert regions(scores, share=0.25, most=1).sum() == 1


def test_the_cut_covers_the_old_size_and_everything_else_is_black() -> None:
    picture = Image.fromarray((numbers(20, 40, 3) * 255).astype(np.uint8))
    kept = np.zeros((20, 40), bool)
    kept[4:8, 10:14] = kept[4, 14] = True
    refined = cut(picture, kept)
    assert refined.size == (40, 32)  # a box of 5 x 4, enlarged 8 times
    assert np.asarray(refined)[-8:, -6:].max() <= 60  # Lanczos rings a little at the edge of the black part
    whole = cut(picture, np.ones((20, 40), bool))
    assert np.array_equal(np.asarray(whole), np.asarray(picture))


@pytest.mark.parametrize(
    ("n", "layers"),
    [(28, range(20, 26)), (32, range(20, 26)), (36, range(20, 26)), (40, range(20, 26)), (26, range(20, 26)),
     (25, range(15, 20)), (16, range(10, 13)), (8, range(5, 7)), (4, range(2, 4))],
)  # fmt: skip
def test_the_layers_are_the_published_numbers_where_the_model_has_them(n: int, layers: range) -> None:
    assert Carve().span(n) == layers


def test_layers_may_be_given_as_numbers_or_shares_and_must_be_there() -> None:
    assert Carve(first_layer=5, last_layer=7).span(40) == range(5, 8)
    assert Carve(first_layer=0.625, last_layer=0.78125).span(40) == range(25, 32)
    assert Carve(last_layer=-1).span(28) == range(20, 28)
    with pytest.raises(UserError, match="layers 9 to 3"):
        Carve(first_layer=9).check(tiny_vlm.view("llava"))


def test_the_suffix_follows_a_space_and_once() -> None:
    words = "Answer the question using a single word or phrase."
    for asked in ("Is it red?", f"Is it red? {words}", f"Is it red?\n{words}"):
        assert ending_in(asked, Carve().suffix) == f"Is it red? {words}"
    assert ending_in("Is it red?\n", "") == "Is it red?\n"


@pytest.mark.parametrize(("covers", "size"), [(True, (26, 32)), (False, (25, 32))])
def test_the_enlarged_sides_are_rounded_down(covers: bool, size: tuple[int, int]) -> None:
    """A box of 23 x 29 in a picture of 26 x 29, enlarged 26 / 23 times: 25.999.. x 32.78 pixels."""
    picture, kept = Image.new("RGB", (26, 29)), np.zeros((29, 26), bool)
    kept[:29, :23] = True
    assert cut(picture, kept, covers=covers).size == size


def test_only_the_last_question_is_replaced() -> None:
    chat = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"})
    assert [m["content"] for m in last_said(chat, str.upper)] == ["a", "b", "C"]
    assert last_said("c", str.upper) == "C"


# ---- on a model


def test_the_whole_picture_is_the_identity() -> None:
    view = tiny_vlm.view("llava")
    [sample] = samples(view, 1)
    changed = transformed(view, Carve(share=1.0), sample)
    assert changed.draft.image_key == "" and changed.ids == sample.ids
    assert torch.equal(changed.tensors["pixel_values"], sample.tensors["pixel_values"])


@pytest.mark.parametrize("family", ["llava", "vipllava", "llava_next", "qwen2_vl", "qwen2_5_vl"])
@pytest.mark.parametrize("mode", ["paper", "release"])
def test_it_is_engaged_and_deterministic(family: str, mode: str) -> None:
    view, method = tiny_vlm.view(family), Carve(mode=mode, max_new_tokens=3)  # type: ignore[arg-type]
    method.check(view)
    one, two = samples(view, 2)
    changed = transformed(view, method, one)
    transformed(view, method, two)
    again = transformed(view, method, one)
    pictures = changed.draft.images
    assert len(pictures) == (1 if mode == "paper" else 2)
    assert [np.array_equal(a, b) for a, b in zip(pictures, again.draft.images, strict=True)] == [True] * len(pictures)
    assert all(a >= b for a, b in zip(pictures[-1].size, one.draft.images[0].size, strict=True))
    assert prove(view, method, collate(view, [one]), changed=collate(view, [changed]))["logits_moved"] > 0


@torch.no_grad()
def test_the_tap_reads_what_eager_attention_returns() -> None:
    view, open_view = tiny_vlm.view("llava"), tiny_vlm.fresh_view("llava", backend="eager")
    [sample] = samples(view, 1)
    tap = Tap(within=(1, 2))
    with attach(view, tap) as attached:
        [answer] = generate(view, [sample], [3], attached)
    assert set(tap.kept) == {(t, i) for t in range(3) for i in (1, 2)} and tap.grid == [(4, 4)]
    inputs = collate(open_view, [sample])
    new = open_view.lm.get_input_embeddings()(torch.tensor([answer.ids[:2]]))
    maps = open_view.lm(inputs_embeds=torch.cat((inputs.embeds, new), dim=1), output_attentions=True).attentions
    for (t, i), kept in tap.kept.items():
        row = maps[i][0].mean(0)[len(sample.ids) - 1 + t]
        torch.testing.assert_close(kept, row[: len(sample.ids)][inputs.image[0]], atol=1e-5, rtol=1e-4)


def test_the_map_covers_the_part_that_the_model_is_shown() -> None:
    assert shown_box(tiny_vlm.view("llava"), (100, 60)) == (20, 0, 80, 60)  # the shortest edge, then the middle
    assert shown_box(tiny_vlm.view("qwen2_vl"), (100, 60)) == (0, 0, 100, 60)


def test_models_without_a_grid_and_several_pictures_are_refused() -> None:
    with pytest.raises(UserError, match="belong to no place"):
        Carve().check(tiny_vlm.view("instructblip"))
    view = tiny_vlm.view("llava")
    two = sample_of(view, Draft("two", "Which?", tuple(tiny_vlm.images(2))))
    with pytest.raises(UserError, match="one picture"):
        transformed(view, Carve(), two)
