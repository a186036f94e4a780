"""Teacher-forced likelihood against an explicit float64 computation, one token at a time."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from harness.asking.likelihood import nll, pad_right
from harness.attention.attach import attach
from harness.errors import UserError
from harness.models.view import View
from methods.contrast.dola import DoLa
from tests.asking.own_cache import OwnCache
from tests.models import small

ROWS = [list(range(5, 35)), [9, 8, 7, 6, 5], list(range(100, 117))]
SCORED = [29, 2, 1]


def explicit(view: View, row: list[int], n: int) -> list[float]:
    """-log p of the last `n` ids, each from a forward pass over nothing but its own past."""
    losses = []
    for t in range(len(row) - n, len(row)):
        logits = view.model(input_ids=torch.tensor([row[:t]])).logits[0, -1].double()
        losses.append(float(torch.logsumexp(logits, -1) - logits[row[t]]))
    return losses


@pytest.mark.parametrize("family", small.FAMILIES)
@pytest.mark.parametrize("max_logits", [1 << 28, 3 * small.VOCAB * 4, 1], ids=["at once", "chunks of 4", "one by one"])
def test_every_family_equals_the_explicit_computation(family: str, max_logits: int) -> None:
    view = small.view(family)
    got = nll(view, ROWS, SCORED, max_logits=max_logits)
    for losses, row, n in zip(got, ROWS, SCORED, strict=True):
        assert losses == pytest.approx(explicit(view, row, n), abs=2e-5)


def test_only_scored_positions_get_logits_and_never_too_many() -> None:
    view, sizes = small.view("llama"), []
    view.lm_head.register_forward_hook(lambda module, args, out: sizes.append(out.numel()))
    nll(view, ROWS[:1], [4])
    assert sizes == [4 * small.VOCAB]
    sizes.clear()
    nll(view, ROWS[:1], [20], max_logits=3 * small.VOCAB)
    assert max(sizes) == 3 * small.VOCAB and sum(sizes) == (20 + 1) * small.VOCAB


def test_a_cache_may_be_given() -> None:
    view = small.view("gemma3_text")
    own = OwnCache(lambda: DynamicCache(config=view.config))
    assert nll(view, ROWS, SCORED, own) == nll(view, ROWS, SCORED)
    assert nll(view, ROWS, SCORED, OwnCache(lambda: None)) == nll(view, ROWS, SCORED)


def test_half_precision_models_are_scored_in_float32() -> None:
    view = small.view("llama")
    view.model.to(torch.bfloat16)
    losses = nll(view, ROWS[:1], [29])[0]
    logits = view.model(input_ids=torch.tensor(ROWS[:1])).logits[0, :-1].float()
    expected = torch.logsumexp(logits, -1) - logits.gather(1, torch.tensor(ROWS[0][1:])[:, None])[:, 0]
    assert losses == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("n", [0, 5, 6])
def test_a_first_token_cannot_be_scored(n: int) -> None:
    with pytest.raises(ValueError, match="one token before it"):
        nll(small.view("llama"), [[1, 2, 3, 4, 5]], [n])


def test_a_row_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="600 positions"):
        nll(small.view("llama"), [[5] * 600], [1])


def test_pad_right() -> None:
    ids, mask = pad_right([[1, 2, 3], [4]], pad=9)
    assert ids.tolist() == [[1, 2, 3], [4, 9, 9]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("max_logits", [1 << 28, 100], ids=["at once", "in pieces"])
def test_a_method_that_edits_logits_meets_the_right_rows(max_logits: int) -> None:
    view, rows, scored = small.view("llama"), [list(range(20, 44)), list(range(30, 48))], [7, 9]
    with attach(view, DoLa()) as attached:
        found = nll(view, rows, scored, attached, max_logits)
        for row, n, losses in zip(rows, scored, found, strict=True):
            for i, loss in enumerate(losses, len(row) - n):  # token i, from a forward over what stands before it
                with torch.no_grad():
                    z = view.lm(input_ids=torch.tensor([row[:i]]), use_cache=False, logits_to_keep=1).logits[0, -1]
                assert loss == pytest.approx(float(-z.float().log_softmax(-1)[row[i]]), abs=1e-4)
