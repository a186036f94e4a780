"""VAR: sinks, selection and redistribution against a slow reading, head by head and row by row; and its invariants."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from harness.errors import UserError
from methods.weights.var import VAR, channels, given, redistribute, relative, sink_tokens
from tests.methods.test_pai import VIEW, call, random

N = 14


def weights(seed: int = 0, rows: int = 5) -> Tensor:
    """Causal attention weights `[2, 6, rows, N]` of the last rows, some heads with much on the image."""
    s = 2 * random(2, 6, rows, N, seed=seed).double()
    s[:, :3, :, 3:9] += 2
    i = torch.arange(N - rows, N)[:, None]
    return s.masked_fill(torch.arange(N)[None] > i, float("-inf")).softmax(-1)


def masks() -> tuple[Tensor, Tensor]:
    """Image columns, and sinks: the first token, one or two on the image, one later text token."""
    image, sinks = torch.zeros(2, N, dtype=torch.bool), torch.zeros(2, N, dtype=torch.bool)
    image[0, 3:9], image[1, 2:8] = True, True
    sinks[0, [0, 4, 10]], sinks[1, [1, 2, 7]] = True, True
    return image, sinks


def slowly(a: Tensor, image: Tensor, sinks: Tensor, q: float, most: float, mass: float) -> Tensor:
    """The recipe, one head and one row at a time."""
    new = a.clone()
    for b in range(a.shape[0]):
        visual = [j for j in range(N) if image[b, j]]
        spots = [j for j in visual if sinks[b, j]]
        rest = [j for j in visual if not sinks[b, j]]
        if not spots:
            continue
        for h in range(a.shape[1]):
            for i in range(a.shape[2]):
                row = a[b, h, i]
                on_image = sum(float(row[j]) for j in visual)
                fraction = sum(float(row[j]) for j in spots) / sum(float(row[j]) + 1e-6 for j in visual)
                if on_image < mass or fraction > most:
                    continue
                freed = q * sum(float(row[j]) for j in range(N) if sinks[b, j])
                on_rest = sum(float(row[j]) for j in rest)
                for j in range(N):
                    if sinks[b, j]:
                        new[b, h, i, j] = row[j] * (1 - q)
                    elif j in rest:
                        new[b, h, i, j] = row[j] + freed * row[j] / on_rest
    return new


@pytest.mark.parametrize(("q", "most", "mass"), [(0.6, 0.5, 0.2), (0.4, 0.2, 0.2), (1.0, 1.0, 0.0), (0.6, 0.5, 0.5)])
def test_redistribution_equals_the_recipe(q: float, most: float, mass: float) -> None:
    a, (image, sinks) = weights(), masks()
    new, moved = redistribute(a, image, sinks, q, most, mass)
    torch.testing.assert_close(new, slowly(a, image, sinks, q, most, mass))
    assert (moved > 0).any()


def test_rows_keep_their_sum_and_only_image_tokens_that_are_no_sinks_grow() -> None:
    a, (image, sinks) = weights(), masks()
    new, moved = redistribute(a, image, sinks, 0.6, 0.5, 0.2)
    torch.testing.assert_close(new.sum(-1), torch.ones(2, 6, 5, dtype=a.dtype))
    grown = new > a + 1e-12
    assert grown.any() and not (grown & ~(image & ~sinks)[:, None, None]).any()
    untouched = (~image & ~sinks)[:, None, None].expand_as(a)
    assert torch.equal(new[untouched], a[untouched])
    idle = moved == 0
    assert idle.any() and (moved > 0).any() and torch.equal(new[idle], a[idle])
    assert (new >= 0).all()


def test_without_sinks_on_the_image_nothing_changes() -> None:
    a, (image, sinks) = weights(), masks()
    new, moved = redistribute(a, image, sinks & ~image, 0.6, 0.5, 0.2)
    assert torch.equal(new, a) and not moved.any()


def test_a_head_that_sees_only_sinks_on_the_image_keeps_its_attention() -> None:
    a, image = torch.zeros(1, 1, 1, N), torch.zeros(1, N, dtype=torch.bool)
    image[0, 3:9] = True
    a[..., 4], a[..., 12] = 0.7, 0.3
    new, moved = redistribute(a, image, torch.arange(N)[None] == 4, 0.6, 1.0, 0.2)
    assert torch.equal(new, a) and not moved.any()


def residual(batch: int = 2, n: int = 10, width: int = 64) -> Tensor:
    """Tokens whose first one (after `pads`) and some others carry a massive activation in channels 5 and 9."""
    x = 0.1 * random(batch, n, width, seed=3)
    for b, j in ((0, 0), (0, 4), (1, 3), (1, 6), (1, 7)):
        x[b, j, 5] = 20.0
    x[0, 4, 9], x[0, 7, 30] = -30.0, 20.0  # a negative one; and a large one in a channel that is none of theirs
    x[0, 0, 9] = -30.0
    x[1, 0, 5] = 50.0  # padding
    return x


PADS = torch.tensor([0, 3])


def test_sinks_are_tokens_with_the_first_tokens_massive_activations() -> None:
    x = residual()
    ratio = relative(x)
    for b, j in ((0, 0), (1, 5)):
        explicit = x[b, j].abs() / (x[b, j].square().mean() + 1e-6).sqrt()
        torch.testing.assert_close(ratio[b, j], explicit)
    found = channels(ratio, PADS, 4.0)
    assert found[0].nonzero()[:, 0].tolist() == [5, 9] and found[1].nonzero()[:, 0].tolist() == [5]
    sinks = sink_tokens(ratio, found, PADS, 4.0)
    assert [row.nonzero()[:, 0].tolist() for row in sinks] == [[0, 4], [3, 6, 7]]  # not the padding, not channel 30
    listed = sink_tokens(ratio, given(ratio, (5, 30)), PADS, 4.0)
    assert [row.nonzero()[:, 0].tolist() for row in listed] == [[0, 4, 7], [3, 6, 7]]


def request(method: VAR, x: Tensor, image: Tensor, pads: Tensor, told: dict | None = None) -> SimpleNamespace:
    """A request whose prefill has passed layer 5."""
    batch = SimpleNamespace(state={}, inputs=SimpleNamespace(ids=torch.zeros(2, x.shape[1])))
    ctx = call(5, image, request=batch, count=(told if told is not None else {}).__setitem__)
    ctx.n_pad = pads
    out = method.layer_in(ctx, x)
    assert out is None or out is x
    return batch


def test_the_prefill_finds_the_sinks_and_decode_uses_them_frozen() -> None:
    x, told = residual(), {}
    image = torch.zeros(2, 10, dtype=torch.bool)
    image[0, 2:7], image[1, 4:9] = True, True
    method = VAR(tau=4.0)
    batch = request(method, x, image, PADS, told)
    assert told["image_sinks"].tolist() == [1, 2] and told["sinks"].tolist() == [2, 3]
    assert told["sink_channels"].tolist() == [2, 1]
    a = (random(4, 3, 1, 12, seed=7) * 2).softmax(-1)  # two beams of each, two more tokens
    grown = torch.nn.functional.pad(image, (0, 2)).repeat_interleave(2, 0)
    ctx = call(5, grown, step=2, request=batch, count=told.__setitem__)
    assert method.layer_in(ctx, random(4, 1, 64)) is None  # decode adds no sinks
    new = method.probs(ctx, a)
    sinks = torch.nn.functional.pad(batch.state["sinks", 5], (0, 2)).repeat_interleave(2, 0)
    expected, moved = redistribute(a, grown, sinks, 0.6, 0.5, 0.2)
    assert new is not None and torch.equal(new, expected) and torch.equal(told["mass_moved"], moved)


def test_a_layer_without_image_sinks_is_left_alone_and_says_so() -> None:
    image, told = torch.zeros(2, 10, dtype=torch.bool), {}
    image[:, 1:3] = True  # the sinks are elsewhere
    batch = request(VAR(tau=4.0), residual(), image, PADS, told)
    assert told["image_sinks"].tolist() == [0, 0]
    assert VAR(tau=4.0).probs(call(5, image, request=batch), weights()[..., :10].float()) is None


def test_beams_of_the_prefill_give_the_same_sinks() -> None:
    x, image = residual(), torch.ones(2, 10, dtype=torch.bool)
    one = request(VAR(tau=4.0), x, image, PADS)
    twice = [t.repeat_interleave(3, 0) for t in (x, image, PADS)]
    assert torch.equal(request(VAR(tau=4.0), *twice).state["sinks", 5], one.state["sinks", 5])


@pytest.mark.parametrize(("mode", "q", "most"), [("paper", 0.6, 0.7), ("release", 0.4, 0.3)])
def test_modes_differ_in_the_share_the_direction_of_rho_and_the_top_layer(mode, q, most) -> None:
    method = VAR(mode=mode, rho=0.3, tau=4.0)
    assert method.share() == q and method.layers(VIEW)[-1] == (30 if mode == "paper" else 31)  # type: ignore[arg-type]
    image, sinks = masks()
    batch = SimpleNamespace(state={("sinks", 5): sinks})
    new = method.probs(call(5, image, request=batch), weights())
    torch.testing.assert_close(new, slowly(weights(), image, sinks, q, most, 0.2))
    assert VAR(mode=mode, q=0.9).share() == 0.9


def test_q_zero_does_nothing() -> None:
    image = torch.ones(2, 10, dtype=torch.bool)
    assert request(VAR(q=0, tau=4.0), residual(), image, PADS).state == {} and VAR(q=0).idle(10)


def test_a_threshold_no_activation_can_reach_is_refused() -> None:
    view = SimpleNamespace(n_layers=4, config=SimpleNamespace(hidden_size=256))
    with pytest.raises(UserError, match=r"sqrt\(256\) = 16.*corresponds to 5"):
        VAR().check(view)  # type: ignore[arg-type]
    VAR(tau=5).check(view)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="channel 2533"):
        VAR(tau=5, sink_dims=(1415, 2533)).check(view)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "method",
    [VAR(mode="code"), VAR(q=1.5), VAR(rho=-1), VAR(mass=2), VAR(tau=0), VAR(sink_dims=()), VAR(sink_dims=(-1,))],  # type: ignore[arg-type]
    ids=repr,
)
def test_senseless_parameters_are_refused(method: VAR) -> None:
    with pytest.raises(UserError, match=r"method\.var\.\w+ is "):
        method.validate()
