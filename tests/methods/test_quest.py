"""Quest against explicit float64 formulas: bounds, choice, padding, incremental pages."""

from __future__ import annotations

import pytest
import torch

from harness.attention.attach import attach
from harness.contracts.call import Call
from harness.errors import UserError
from methods.selection.quest import Quest, page_scores
from tests import tiny


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def call(n_k: int, n_pad: list[int], state: dict | None = None, visible: torch.Tensor | None = None) -> Call:
    pad = torch.tensor(n_pad)
    shown = torch.arange(n_k)[None, None, None, :] >= pad[:, None, None, None] if visible is None else visible
    return Call(
        view=None, layer=2, phase="decode", q_offset=n_k - 1, n_pad=pad, state={} if state is None else state,  # type: ignore[arg-type]
        visible=lambda rows: shown,
    )  # fmt: skip


def test_the_score_is_the_sum_of_maxima_and_bounds_every_key() -> None:
    q, k = random(2, 4, 1, 8), random(2, 2, 24, 8, seed=1)
    low, high = k.unflatten(2, (6, 4)).amin(3), k.unflatten(2, (6, 4)).amax(3)
    scores = page_scores(q, low, high)
    for h in range(4):
        query = q[:, h, 0, None]
        explicit = torch.maximum(query * low[:, h // 2], query * high[:, h // 2]).sum(-1)
        torch.testing.assert_close(scores[:, h], explicit)
        products = (k[:, h // 2] @ q[:, h, 0, :, None])[..., 0].unflatten(1, (6, 4))
        assert (scores[:, h, :, None] >= products - 1e-12).all()


@pytest.mark.parametrize("share", ["per_head", "group"])
def test_the_best_pages_are_chosen_and_the_ragged_page_holds_no_padding(share: str) -> None:
    q, k = random(1, 4, 1, 8), random(1, 2, 26, 8, seed=2)
    chosen = Quest(page=4, budget=12, share=share).select(call(26, [0]), q, k)  # type: ignore[arg-type]
    assert chosen is not None
    scores = torch.zeros(4, 7, dtype=torch.float64)
    for h in range(4):
        for p in range(7):
            keys = k[0, h // 2, 4 * p : 4 * p + 4]
            scores[h, p] = torch.maximum(q[0, h, 0] * keys.amin(0), q[0, h, 0] * keys.amax(0)).sum()
    if share == "group":
        scores = scores.view(2, 2, 7).sum(1)
    for h, row in enumerate(scores):
        tokens = {t for p in row.topk(3).indices.tolist() for t in range(4 * p, 4 * p + 4)}
        assert set(chosen[0, h].tolist()) == tokens  # columns 26 and 27 do not exist; the harness ignores them


def test_at_least_three_pages_are_read() -> None:
    chosen = Quest(page=4, budget=1).select(call(40, [0]), random(1, 4, 1, 8), random(1, 2, 40, 8))
    assert chosen is not None and chosen.shape == (1, 4, 12)


@pytest.mark.parametrize(
    ("n", "budget", "pages"), [(1000, 1024, 62), (1024, 1024, 64), (5000, 1024, 64), (40, 1024, 3), (1000, 512, 32)]
)
def test_as_many_pages_are_read_as_the_release_reads(n: int, budget: int, pages: int) -> None:
    """62 pages of 1000 keys under budget 1024: 984 keys where the last page, half full, is among them."""
    method = Quest(page=16, budget=budget)
    k, q = random(1, 1, n, 8, seed=3), random(1, 1, 1, 8)
    k[:, :, -4:] = 9 * q.sign()  # the last page is the best one
    chosen = method.select(call(n, [0]), q, k)
    assert chosen is not None and chosen.shape[-1] == 16 * min(pages, -(-n // 16)) == 16 * method.pages_read(n)
    keys = int((chosen < n).sum())
    assert keys == (984 if (n, budget) == (1000, 1024) else 16 * pages - (-n % 16))
    assert bool(method.idle(n)) == (
        n <= max(budget, 48)
    )  # what only the rounding leaves out is no choice of the method


def test_a_shorter_sample_of_a_batch_reads_what_it_reads_alone() -> None:
    q, k = random(2, 4, 1, 8), random(2, 2, 50, 8, seed=1)
    both = Quest(page=4, budget=100).select(call(50, [0, 21]), q, k)
    alone = Quest(page=4, budget=100).select(call(29, [0]), q[1:], k[1:, :, 21:])
    assert both is not None and alone is not None and both.shape[-1] == 48 and alone.shape[-1] == 28
    for h in range(4):
        there = {t for t in both[1, h].tolist() if 0 <= t < 50}
        assert there == {t + 21 for t in alone[0, h].tolist() if t < 29}


def test_pages_grow_with_the_cache_and_equal_those_made_at_once() -> None:
    method, k, state = Quest(page=4), random(2, 2, 30, 8), {}
    for n in (9, 10, 11, 12, 13, 29, 30):
        low, high, columns = method.pages(call(n, [0, 5], state), k[:, :, :n])
        fresh = method.pages(call(n, [0, 5]), k[:, :, :n])
        assert all(torch.equal(x, y) for x, y in zip((low, high, columns), fresh, strict=True))


def test_padding_never_enters_the_bounds() -> None:
    k = random(2, 2, 20, 8)
    k[1, :, :7] = 1e6
    low, high, columns = Quest(page=4).pages(call(20, [0, 7]), k)
    alone_low, alone_high, _ = Quest(page=4).pages(call(13, [0]), k[1:, :, 7:])
    assert torch.equal(low[1:, :, :4], alone_low) and torch.equal(high[1:, :, :4], alone_high)
    assert columns[1, 0].tolist() == [7, 8, 9, 10]
    assert low[1, :, 4].isinf().all()  # a page the short sample does not have


def test_pages_outside_the_window_are_not_chosen() -> None:
    visible = (torch.arange(40) >= 22)[None, None, None]
    chosen = Quest(page=4, budget=12).select(call(40, [0], visible=visible), random(1, 4, 1, 8), random(1, 2, 40, 8))
    assert chosen is not None and int(chosen.min()) >= 20


def test_a_model_with_too_few_layers_is_refused() -> None:
    with pytest.raises(UserError, match="dense_layers is 3"), attach(tiny.view("llama"), Quest(dense_layers=3)):
        pass


def test_the_whole_method_equals_explicit_attention_over_the_chosen_keys() -> None:
    view, ids, seen = tiny.view("llama"), tiny.ids(61), {}
    method = Quest(page=4, budget=12, dense_layers=0)

    def capture(module, args, kwargs):
        cos, sin = kwargs["position_embeddings"]
        x = module.q_proj(kwargs["hidden_states"]).view(1, 1, 4, 16).transpose(1, 2)
        half = torch.cat((-x[..., 8:], x[..., :8]), dim=-1)
        seen["q"] = x * cos + half * sin

    with torch.no_grad(), attach(view, method) as attached:
        cache = view.model(ids[:, :-1], past_key_values=attached.new_cache(), use_cache=True).past_key_values
        handles = [
            view.attention(0).register_forward_pre_hook(capture, with_kwargs=True),
            view.o_proj(0).register_forward_hook(lambda m, args, out: seen.update(z=args[0])),
        ]
        view.model(ids[:, -1:], past_key_values=cache)
        for handle in handles:
            handle.remove()
    k, v, q = cache.layers[0].keys.double(), cache.layers[0].values.double(), seen["q"].double()
    chosen = method.select(call(61, [0]), q, k)
    assert chosen is not None
    for h in range(4):
        columns = [c for c in chosen[0, h].tolist() if c < 61]
        weights = (k[0, h // 2, columns] @ q[0, h, 0] * 16**-0.5).softmax(0)
        expected = weights @ v[0, h // 2, columns]
        torch.testing.assert_close(seen["z"][0, 0, 16 * h : 16 * h + 16].double(), expected, rtol=1e-4, atol=1e-5)
