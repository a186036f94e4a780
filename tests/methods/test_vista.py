"""VISTA against explicit float64 formulas, then on a tiny model."""

from __future__ import annotations

import pytest
import torch

from harness.asking.decoding import Decoding
from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.errors import UserError
from harness.models.inputs import collate, without_image
from methods.activations.steering import moved
from methods.activations.vista import Vista, turned, window
from tests import tiny_vlm
from tests.methods.pictured import answers, before_and_after, check_identity, check_request, samples


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("strength", [0.01, 0.17, 2.0])
def test_the_releases_edit_is_its_formula_position_by_position(strength: float) -> None:
    m, v = random(2, 5, 16), random(2, 1, 16, seed=1)
    new = turned(m, v, strength)
    for b in range(2):
        for i in range(5):
            x, d = m[b, i], v[b, 0]
            g = 1 + max(0.0, float(torch.dot(x, -d) / x.norm() / d.norm()))
            y = x / x.norm() + strength * g * d / d.norm()
            torch.testing.assert_close(new[b, i], x.norm() * y / y.norm())


@pytest.mark.parametrize("edit", [turned, moved])
def test_norms_are_kept_and_strength_0_changes_nothing(edit) -> None:
    m, v = random(2, 5, 16), random(2, 1, 16, seed=1)
    torch.testing.assert_close(edit(m, v, 0.7).norm(dim=-1), m.norm(dim=-1))
    torch.testing.assert_close(edit(m, v, 0.0), m)
    torch.testing.assert_close(edit(m, 0 * v, 0.7), m)  # no direction, no edit


def test_what_points_away_from_the_direction_is_turned_more() -> None:
    v = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    away, towards = torch.tensor([[[-0.6, 0.8]]]).double(), torch.tensor([[[0.6, 0.8]]]).double()
    turn = [float(torch.cosine_similarity(x, turned(x, v, 0.1), dim=-1)) for x in (away, towards)]
    assert turn[0] < turn[1] < 1


def test_the_window_is_the_published_one_at_32_layers_and_never_a_single_layer() -> None:
    assert list(window(32, 6)) == [25, 26, 27, 28, 29, 30]
    assert list(window(32, 5)) == [26, 27, 28, 29, 30]
    assert list(window(6, 6)) == [3, 4] and list(window(2, 6)) == [0]
    assert list(window(32, 6, chosen=1)) == [30]


def test_where_it_acts_follows_from_its_strengths() -> None:
    class View:
        n_layers = 4

    assert Vista().layers(View) == [0, 1, 2, 3, 4]  # type: ignore[arg-type]
    assert Vista(gamma=0).layers(View) == [0, 1, 2, 3]  # type: ignore[arg-type]
    assert Vista(strength=0).layers(View) == [4]  # type: ignore[arg-type]


# ---- on a model


def test_zero_strengths_equal_dense() -> None:
    check_identity(tiny_vlm.view("llava"), Vista(strength=0, gamma=0))


@pytest.mark.parametrize("method", [Vista(), Vista(mode="paper"), Vista(gamma=0), Vista(strength=0)], ids=repr)
def test_a_batch_equals_its_samples_in_either_order(method: Vista) -> None:
    check_request(tiny_vlm.view("llava"), method)


@pytest.mark.parametrize("family", tiny_vlm.FAMILIES)
@pytest.mark.parametrize("mode", ["release", "paper"])
def test_it_is_engaged_in_every_family(family: str, mode: str) -> None:
    view = tiny_vlm.view(family)
    report = prove(view, Vista(mode=mode), collate(view, samples(view, 1)))  # type: ignore[arg-type]
    assert report["layers_touched"] == [0, 1, 2, 3, 4]
    assert 0 < report["method_cosine"] < 1 and report["method_late_logits_moved"] > 0


@torch.no_grad()
def test_the_direction_is_the_difference_of_the_layers_outputs() -> None:
    view = tiny_vlm.view("llava")
    [sample] = samples(view, 1)
    with attach(view, Vista()) as attached:
        attached.begin(collate(view, [sample]))
        direction = attached.request.state["direction"]
    for layer in range(3):  # the library's last hidden state is normed
        rows = []
        for inputs in (collate(view, [sample]), collate(view, [without_image(view, sample)])):
            rows.append(view.lm(**inputs.prefill(), output_hidden_states=True).hidden_states[layer + 1][0, -1])
        torch.testing.assert_close(direction[0, layer], rows[0] - rows[1], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_releases_pca_adds_one_to_the_first_channel_of_the_first_layer() -> None:
    view = tiny_vlm.view("llava")
    directions = []
    for quirk in (False, True):
        with attach(view, Vista(release_quirk=quirk)) as attached:
            attached.begin(collate(view, samples(view, 2)))
            directions.append(attached.request.state["direction"])
    difference = directions[1] - directions[0]
    torch.testing.assert_close(difference[:, 0, 0], torch.ones(2))
    assert int((difference != 0).sum()) == 2
    with pytest.raises(UserError, match="release_quirk"):
        Vista(mode="paper", release_quirk=True).validate()


@pytest.mark.parametrize(("mode", "part"), [("release", "mlp"), ("paper", "layer")])
def test_the_edit_of_the_model_keeps_norms(mode: str, part: str) -> None:
    view = tiny_vlm.view("llava")
    modules = {i: view.mlp(i) if part == "mlp" else view.layers[i] for i in range(4)}
    old, new = before_and_after(view, Vista(mode=mode), modules, samples(view))  # type: ignore[arg-type]
    for i in range(4):
        for before, after in zip(old[i], new[i], strict=True):
            torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1))
            assert not torch.equal(after[:, -1], before[:, -1])
            assert torch.equal(after[:, :-1], before[:, :-1]) == (mode == "paper" or before.shape[1] == 1)


@torch.no_grad()
def test_late_layers_are_mixed_into_the_logits_without_the_final_norm() -> None:
    view = tiny_vlm.view("llava")
    inputs = collate(view, samples(view, 1))
    plain = view.lm(**inputs.prefill(), output_hidden_states=True)
    late = sum(plain.hidden_states[i + 1] @ view.lm_head.weight.T for i in (1, 2)) / 2
    with attach(view, Vista(strength=0)) as attached:
        mixed = view.lm(**attached.begin(inputs).prefill()).logits
    torch.testing.assert_close(mixed, 0.7 * plain.logits + 0.3 * late, atol=1e-5, rtol=1e-4)


def test_beams_carry_the_direction_of_their_sample() -> None:
    view, beams = tiny_vlm.view("llava"), Decoding(search="beam", num_beams=3)
    asked = samples(view)
    together = answers(view, Vista(), asked, decoding=beams)
    assert together == [answers(view, Vista(), [s], decoding=beams)[0] for s in asked]
