"""A compressed cache keeps track of true positions, whatever happens to the batch."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.attention.attach import attach
from harness.attention.cache import TrackedLayer
from methods.cache.snapkv import SnapKV
from methods.selection.quest import Quest
from tests import tiny


def filled(n: int = 10, batch: int = 2) -> TrackedLayer:
    layer = TrackedLayer()
    keys = torch.arange(n, dtype=torch.float)[None, None, :, None].expand(batch, 2, n, 3)
    layer.update(keys, keys + 100)
    return layer


def test_positions_follow_what_is_kept_and_what_is_appended() -> None:
    layer = filled()
    layer.keep(torch.tensor([[[0, 3, 9], [1, 2, 9]]]).expand(2, 2, 3))
    layer.update(torch.full((2, 2, 2, 3), 10.0), torch.zeros(2, 2, 2, 3))
    layer.keep(torch.tensor([[[1, 3, 4], [0, 2, 4]]]).expand(2, 2, 3))
    assert layer.positions is not None and layer.keys is not None
    assert layer.positions[0].tolist() == [[3, 10, 11], [1, 9, 11]]
    assert layer.keys[0, :, 0, 0].tolist() == [3, 1]
    assert layer.get_seq_length() == 12 and layer.get_mask_sizes(1) == (4, 0)


def test_the_batch_may_be_reordered_repeated_and_selected() -> None:
    layer = filled()
    layer.keep(torch.tensor([[[0], [1]], [[2], [3]]]))
    layer.state = {"scores": torch.tensor([10, 20]), "n": 5}
    layer.reorder_cache(torch.tensor([1, 0]))
    assert layer.positions is not None
    assert layer.positions.flatten().tolist() == [2, 3, 0, 1] and layer.state["scores"].tolist() == [20, 10]
    layer.batch_repeat_interleave(2)
    layer.batch_select_indices(torch.tensor([0, 2]))
    assert layer.positions.flatten().tolist() == [2, 3, 0, 1] and layer.state == {"n": 5} | {
        "scores": layer.state["scores"]
    }
    layer.reset()
    assert layer.get_seq_length() == 0 and layer.positions is None and layer.state == {}


def test_cropping_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="assisted"):
        filled().crop(-1)


@pytest.mark.parametrize(
    "method",
    [
        Quest(page=4, budget=12, dense_layers=1),
        SnapKV(window=4, capacity=12, share="per_head"),
        SnapKV(window=4, capacity=12),
    ],
)
def test_copies_of_a_cache_go_their_own_ways(method) -> None:
    view, ids = tiny.view("llama"), tiny.ids(60)
    with torch.no_grad(), attach(view, method) as attached:
        cache = view.model(ids, past_key_values=attached.new_cache(), use_cache=True).past_key_values
        kept = copy.deepcopy(cache)
        first = view.model(ids[:, :1], past_key_values=cache).logits
        view.model(ids[:, 1:2], past_key_values=cache)
        assert torch.equal(view.model(ids[:, :1], past_key_values=kept).logits, first)


@pytest.mark.parametrize("method", [Quest(page=4, budget=12, dense_layers=1), SnapKV(window=4, capacity=12)])
def test_beam_search_takes_positions_and_state_along(method) -> None:
    view, ids = tiny.view("llama"), tiny.ids(60)
    with torch.no_grad(), attach(view, method) as attached:
        out = view.model.generate(
            ids, num_beams=3, max_new_tokens=6, do_sample=False, past_key_values=attached.new_cache(),
            return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        best, n = out.sequences[:, 60:], out.sequences.shape[1] - 60
        cache, step, total = attached.new_cache(), ids, 0.0
        for i in range(n):
            scores = view.model(step, past_key_values=cache, use_cache=True).logits[0, -1].log_softmax(-1)
            total += float(scores[best[0, i]])
            step = best[:, i : i + 1]
    assert abs(total / n - float(out.sequences_scores[0])) < 1e-4
