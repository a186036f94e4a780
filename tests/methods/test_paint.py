"""PAINT's token sets against an explicit reading, and their way to the image columns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.errors import UserError
from methods.weights.paint import Paint, on_columns, token_sets
from tests.methods.test_pai import call, random

PATCHES = 16


def maps(batch: int, seed: int) -> torch.Tensor:
    """Softmaxed attention `[B, H, 1 + P, 1 + P]` of a tower with a CLS token."""
    return (3 * random(batch, 4, 1 + PATCHES, 1 + PATCHES, seed=seed)).softmax(-1)


def test_sets_equal_the_explicit_reading() -> None:
    first, late = maps(3, 1)[:, :, 0, 1:].sum(1), maps(3, 2)[:, :, 0, 1:].sum(1)
    late[1, 3], late[1, 7] = 9.0, 8.0  # two outliers that are certain
    local, summary = token_sets(first, late, 0.25)
    for b in range(3):
        q1, q3 = np.quantile(late[b].numpy(), [0.25, 0.75])
        n_outliers = int((late[b].numpy() > q3 + 1.5 * (q3 - q1)).sum())
        strong = set(late[b].topk(n_outliers).indices.tolist())
        near = set(first[b].topk(4).indices.tolist()) - strong
        assert set(summary[b].nonzero()[:, 0].tolist()) == strong
        assert set(local[b].nonzero()[:, 0].tolist()) == near
    assert summary[1].sum() == 2 and not (local & summary).any()


def test_patches_become_image_columns_in_order() -> None:
    image = torch.tensor([[False, False, True, True, True], [False, True, True, False, True]])
    placed = on_columns(image, torch.tensor([[0.7, 0.3, 0.1], [0.0, 0.7, 0.3]]))
    torch.testing.assert_close(placed, torch.tensor([[0, 0, 0.7, 0.3, 0.1], [0, 0.0, 0.7, 0, 0.3]]))


def request(image: torch.Tensor) -> SimpleNamespace:
    attention = {0: maps(2, 1), -2: maps(2, 2)}
    attention[-2][0, :, 0, 4] = 5.0  # a certain summary token
    return SimpleNamespace(
        inputs=SimpleNamespace(image=image), state={}, vision_attention=lambda layers: [attention[i] for i in layers]
    )


def test_the_last_row_gains_by_token_set_and_decode_columns_gain_nothing() -> None:
    image = torch.zeros(2, 24, dtype=torch.bool)
    image[0, 2:18], image[1, 6:22] = True, True
    batch, told = request(image), {}
    method = Paint(alpha=0.7, beta=0.3, ratio=0.25, gamma=None)
    method.begin(batch)  # type: ignore[arg-type]
    s = random(4, 3, 1, 26)  # two beams of each sample, two tokens generated
    grown = torch.nn.functional.pad(image, (0, 2)).repeat_interleave(2, 0)
    new = method.scores(call(5, grown, step=2, request=batch, count=told.__setitem__), s)
    assert new is not None
    gain = ((new - s) / s.abs())[:, :, 0]
    local, summary = token_sets(
        maps(2, 1)[:, :, 0, 1:].sum(1), batch.vision_attention([-2])[0][:, :, 0, 1:].sum(1), 0.25
    )
    for row in range(4):
        b, start = row // 2, (2, 6)[row // 2]
        expected = torch.zeros(26)
        expected[start : start + 16] = 0.7 * local[b] + 0.3 * summary[b]
        torch.testing.assert_close(gain[row], expected.expand(3, -1), rtol=1e-3, atol=1e-4)
    assert told["local_tokens"].tolist() == local.sum(1).tolist()
    assert told["summary_tokens"].tolist() == summary.sum(1).tolist() and summary[0, 4 - 1]


def test_merged_patches_are_refused() -> None:
    image = torch.zeros(2, 24, dtype=torch.bool)
    image[:, 2:10] = True
    with pytest.raises(UserError, match="one image token for each patch"):
        Paint(gamma=None).begin(request(image))  # type: ignore[arg-type]


def test_no_strength_asks_nothing_and_is_idle() -> None:
    batch = SimpleNamespace(state={})
    Paint(alpha=0, beta=0, gamma=None).begin(batch)  # type: ignore[arg-type]
    assert batch.state == {} and Paint(alpha=0, beta=0, gamma=None).idle(9)
    assert not Paint(alpha=0).idle(9) and Paint(beta=0, ratio=0, gamma=None).idle(9)


@pytest.mark.parametrize("method", [Paint(alpha=-1), Paint(beta=-1), Paint(ratio=1.5), Paint(cut=-1)], ids=repr)
def test_senseless_parameters_are_refused(method: Paint) -> None:
    with pytest.raises(UserError, match=r"method\.paint\.\w+ is "):
        method.validate()
