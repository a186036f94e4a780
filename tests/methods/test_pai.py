"""PAI's two formulas, and what it does without a strength."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import Tensor

from harness.contracts.call import Call
from harness.errors import UserError
from methods.weights.boost import boosted
from methods.weights.depth import layer_number
from methods.weights.pai import PAI

ROOT = Path(__file__).parents[2]
VIEW = SimpleNamespace(n_layers=32, final_softcap=None)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def call(layer: int = 5, image: Tensor | None = None, step: int = 0, **more: object) -> Call:
    return Call(
        view=VIEW, layer=layer, phase="decode" if step else "prefill", q_offset=0, n_pad=torch.zeros(2, dtype=torch.long),  # type: ignore[arg-type]
        image=image, step=step, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def image(n: int = 12) -> Tensor:
    """Row 0: columns 2 to 6, row 1: columns 5 to 9."""
    columns = torch.arange(n)
    return torch.stack([(columns >= 2) & (columns < 7), (columns >= 5) & (columns < 10)])


def test_image_columns_gain_alpha_times_their_absolute_score() -> None:
    s, shown = random(2, 4, 1, 12), image()
    new = PAI(alpha=0.5).scores(call(image=shown), s)
    assert new is not None
    for b in range(2):
        for j in range(12):
            old = s[b, :, 0, j]
            expected = old + 0.5 * old.abs() if shown[b, j] else old
            assert torch.equal(new[b, :, 0, j], expected)


def test_gains_may_differ_between_columns() -> None:
    s, g = random(1, 2, 3, 5), torch.tensor([[0.0, 0.7, 0.3, 0.0, 0.7]])
    expected = torch.stack([s[..., j] + g[0, j] * s[..., j].abs() for j in range(5)], dim=-1)
    torch.testing.assert_close(boosted(s, g), expected, rtol=0, atol=0)


def test_layers_outside_its_own_and_requests_without_pictures_are_left_alone() -> None:
    s, shown = random(2, 4, 1, 12), image()
    for layer in (0, 1):
        assert PAI().scores(call(layer, shown), s) is None
    assert PAI().scores(call(2, shown), s) is not None and PAI().scores(call(31, shown), s) is not None
    assert PAI().scores(call(5, None), s) is None
    assert PAI(alpha=0).scores(call(5, shown), s) is None
    assert PAI(first_layer=4, last_layer=4, gamma=None).layers(VIEW) == [4]  # type: ignore[arg-type]


def test_layers_scale_with_the_depth() -> None:
    assert [layer_number(0.0625, n) for n in (4, 16, 32, 40)] == [0, 1, 2, 2]
    assert [layer_number(-1, n) for n in (4, 32)] == [3, 31]
    assert [layer_number(7, n) for n in (16, 32)] == [7, 7]
    assert PAI(gamma=None).layers(VIEW) == list(range(2, 32))  # type: ignore[arg-type]
    assert PAI().layers(VIEW) == list(range(2, 33))  # type: ignore[arg-type]
    assert PAI(alpha=0, gamma=1.1).layers(VIEW) == [32]  # type: ignore[arg-type]


def test_layers_the_model_lacks_are_refused() -> None:
    with pytest.raises(UserError, match="layers 40 to 31"):
        PAI(first_layer=40).check(VIEW)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="layers 20 to 9"):
        PAI(first_layer=20, last_layer=9).check(VIEW)  # type: ignore[arg-type]


def test_guidance_turns_away_from_the_text_alone_and_rules_out_the_unlikely() -> None:
    z, other = random(2, 1, 9), random(2, 9, seed=1)
    state = {"stream": SimpleNamespace(next=lambda ctx: other)}
    new = PAI(gamma=1.1, cut=0.1).logits(call(32, request=SimpleNamespace(state=state)), z)
    assert new is not None
    c, u = z[:, 0].log_softmax(-1), other.log_softmax(-1)
    for b in range(2):
        for t in range(9):
            kept = c[b, t].exp() >= 0.1 * c[b].exp().max()
            expected = 1.1 * (c[b, t] - u[b, t]) + u[b, t] if kept else torch.tensor(float("-inf"))
            torch.testing.assert_close(new[b, 0, t], expected)
    assert new[:, 0].isinf().any() and not new[:, 0].isinf().all()


def test_gamma_one_without_a_cut_asks_for_no_second_stream() -> None:
    method = PAI(gamma=1, cut=0)
    assert method.logits(call(32, request=SimpleNamespace(state={})), random(2, 3, 9)) is None
    assert method.begin(SimpleNamespace()) is None and method.layers(VIEW)[-1] == 31  # type: ignore[arg-type, func-returns-value]


def test_gamma_one_keeps_the_log_probabilities_of_what_is_plausible() -> None:
    z, other = random(2, 3, 9), random(2, 9, seed=1)
    state = {"stream": SimpleNamespace(next=lambda ctx: other)}
    new = PAI(gamma=1).logits(call(32, request=SimpleNamespace(state=state)), z)
    assert new is not None
    kept = ~new[:, -1].isinf()
    torch.testing.assert_close(new[:, -1][kept], z[:, -1].log_softmax(-1)[kept])
    assert torch.equal(new[:, :-1], z[:, :-1])


def test_without_gamma_the_logits_are_left_alone() -> None:
    assert PAI(gamma=None).logits(call(32, request=SimpleNamespace(state={})), random(1, 1, 9)) is None
    assert PAI(gamma=0).logits(call(32, request=SimpleNamespace(state={})), random(1, 1, 9)) is None


def test_the_quirk_of_the_release_keeps_the_boost_from_the_first_token() -> None:
    s, shown, method = random(2, 4, 1, 12), image(), PAI(gamma=1.1, release_quirk=True)
    assert method.scores(call(image=shown), s) is None
    assert method.scores(call(image=shown, step=1), s) is not None
    with pytest.raises(UserError, match="release_quirk"):
        PAI(gamma=None, release_quirk=True).validate()


@pytest.mark.parametrize("method", [PAI(alpha=-1), PAI(gamma=-0.5), PAI(cut=1), PAI(first_layer=1.5)], ids=repr)
def test_senseless_parameters_are_refused(method: PAI) -> None:
    with pytest.raises(UserError, match=r"method\.pai\.\w+ is "):
        method.validate()


def test_no_strength_is_idle() -> None:
    assert PAI(alpha=0, gamma=None).idle(100) and not PAI().idle(100) and not PAI(alpha=0, gamma=1.1).idle(100)


@pytest.mark.parametrize("name", ["pai", "paint"])
def test_guidance_is_on_as_in_every_command_of_the_releases(name: str) -> None:
    config = yaml.safe_load((ROOT / "configs" / "method" / f"{name}.yaml").read_text())[name]
    assert (config["gamma"], config["cut"], config["release_quirk"]) == (1.1, 0.1, False)
    assert PAI().gamma == 1.1 and PAI().guides()


def test_suites_compare_what_the_figures_beside_them_were_measured_with() -> None:
    p1, p7 = (
        yaml.safe_load((ROOT / "configs" / "suite" / f"{name}.yaml").read_text()) for name in ("p1_chair", "p7_pope")
    )
    assert p1["published"]["rows"]["paint"]["chair"]["chair_s"] == 17.6 and p1["method"]["paint"]["beta"] == 0.4
    assert p7["method"]["pai"] == {"gamma": 1.1, "release_quirk": True}  # the answer is the first token
