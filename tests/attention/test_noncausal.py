"""Patterns that look ahead: on a model that does (Gemma-3 as an encoder) every lowering equals an explicit softmax in both
directions and counts what it reads; on one that looks back alone they change nothing of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from harness.attention.attach import attach
from harness.attention.lowering import flex, gather
from harness.attention.lowering.tiles import build
from harness.contracts.call import Blocks, Call
from harness.contracts.method import Method
from harness.models.view import View
from tests import tiny

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
N = 60
lowerings = pytest.mark.parametrize("lowering", ["dense", "gather"])


@dataclass(frozen=True, kw_only=True)
class Around(Method):
    """The blocks beside the query's own, in both directions, and every fifth after it; of these the even tokens."""

    name = "around_the_query"
    per_head: bool = False
    causal: bool = False
    even: bool = True

    def keep(self, h: Tensor | None, a: Tensor, c: Tensor) -> Tensor:
        return ((a - c).abs() <= (1 if h is None else h)) | ((c - a) % 5 == 3)

    def pattern(self, ctx: Call, q: Tensor, k: Tensor) -> Blocks:
        token = (lambda i, j: j % 2 == 0) if self.even else None
        return Blocks(4, self.keep, token, self.per_head, self.causal)


@dataclass(frozen=True, kw_only=True)
class Everything(Around):
    """All that the model shows."""

    even: bool = False

    def keep(self, h: Tensor | None, a: Tensor, c: Tensor) -> Tensor:
        return (a == a) & (c == c)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@cache
def encoder() -> View:
    """Looks ahead in all layers; two of three slide, over keys on both sides."""
    return tiny.fresh_view("gemma3", use_bidirectional_attention=True)


def shown(view: View, method: Around, n: int, window: int | None = None) -> Tensor:
    """bool `[H, n, n]`: the pattern, written down pair by pair, and the model's window."""
    i, j = torch.arange(n)[:, None], torch.arange(n)[None]
    heads = range(view.n_heads)
    kept = torch.stack([method.keep(torch.tensor(h) if method.per_head else None, i // 4, j // 4) for h in heads])
    kept = kept | (i // 4 == j // 4)
    kept = kept & (j % 2 == 0) if method.even else kept
    kept = kept if window is None else kept & ((i - j).abs() < window)
    return kept | (i == j)


@dataclass(frozen=True, kw_only=True)
class Explicit(Method):
    """The same as a mask on the weights of every row, in the softmax of a model that shows everything."""

    name = "explicit"
    query_rows = "all"
    stated: Around = Around()
    pads: tuple[int, ...] = (0,)

    def scores(self, ctx: Call, s: Tensor) -> Tensor:
        window = ctx.view.sliding_window(ctx.layer)  # type: ignore[attr-defined]
        masks = torch.ones(len(self.pads), s.shape[1], s.shape[2], s.shape[3], dtype=torch.bool)
        for b, pad in enumerate(self.pads):
            masks[b, :, pad:, pad:] = shown(ctx.view, self.stated, s.shape[3] - pad, window)  # type: ignore[arg-type]
        return s.masked_fill(~masks, float("-inf"))


def logits(
    view: View, method: Method, ids: Tensor, lowering: str = "auto", pads: tuple[int, ...] = (0,)
) -> tuple[Tensor, dict]:
    mask = torch.stack([(torch.arange(ids.shape[1]) >= pad).long() for pad in pads])
    extra = {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if any(pads) else {}
    with attach(view, method, lowering) as attached:
        return view.model(ids, use_cache=False, **extra).logits, attached.report()


def test_the_encoder_looks_ahead() -> None:
    ids = tiny.ids(N)
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % tiny.VOCABULARY
    one, two = (encoder().model(x, use_cache=False).logits for x in (ids, changed))
    assert not torch.allclose(one[:, 0], two[:, 0], atol=1e-3)


@lowerings
@pytest.mark.parametrize(
    "method", [Around(), Around(even=False), Around(per_head=True)], ids=["even", "blocks", "heads"]
)
@pytest.mark.parametrize("pads", [(0,), (0, 13)])
def test_a_lowering_equals_the_explicit_softmax_and_counts_its_pairs(
    method: Around, pads: tuple[int, ...], lowering: str
) -> None:
    view, ids = encoder(), tiny.ids(N, len(pads))
    ours, usage = logits(view, method, ids, lowering, pads)
    explicit, _ = logits(view, Explicit(stated=method, pads=pads), ids, pads=pads)
    for b, pad in enumerate(pads):
        torch.testing.assert_close(ours[b, pad:], explicit[b, pad:], **CLOSE)
    windows = [view.sliding_window(i) for i in range(3)]
    read, visible = (
        sum(int(shown(view, m, N - pad, w).sum()) for w in windows for pad in pads) for m in (method, Everything())
    )
    assert usage["pairs_read"] == read < usage["pairs_visible"] == visible
    assert usage["simulated"] == (lowering == "dense")


@lowerings
@pytest.mark.parametrize("family", ["llama", "mistral", "gpt_oss"])
def test_a_model_that_looks_back_goes_on_doing_so(family: str, lowering: str) -> None:
    view, ids = tiny.view(family), tiny.ids(N)
    both, usage = logits(view, Around(), ids, lowering)
    back, expected = logits(view, Around(causal=True), ids, lowering)
    torch.testing.assert_close(both, back, **CLOSE)
    assert usage["pairs_read"] == expected["pairs_read"] and usage["density"] == expected["density"]


def test_a_causal_pattern_on_a_model_that_looks_ahead_reads_back_alone() -> None:
    dense, by_mask = logits(encoder(), Around(causal=True), tiny.ids(N), "dense")
    gathered, by_gather = logits(encoder(), Around(causal=True), tiny.ids(N), "gather")
    torch.testing.assert_close(gathered, dense, **CLOSE)
    assert by_gather["pairs_read"] == by_mask["pairs_read"]
    ids = tiny.ids(N)
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % tiny.VOCABULARY
    again, _ = logits(encoder(), Around(causal=True), changed, "gather")
    assert torch.equal(again[:, :-1], gathered[:, :-1])


@pytest.mark.slow
def test_compiled_flex_and_gather_look_ahead_alike() -> None:
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, N, 16, generator=draw) for heads in (4, 2, 2))
    blocks, span = Blocks(16, lambda h, a, c: (a - c).abs() <= 1, causal=False), range(N)
    allowed = lambda i, j: (i - j).abs() < 25  # noqa: E731
    mask = flex.block_mask(blocks, span, span, allowed, "cpu", 4)
    plan = build(blocks, span, span, allowed, "cpu")
    i, j = torch.arange(N)[:, None], torch.arange(N)[None]
    kept = ((i // 16 - j // 16).abs() <= 1) & ((i - j).abs() < 25)
    s = (q.double() @ k.double().repeat_interleave(2, 1).transpose(-1, -2) * 0.25).masked_fill(~kept, float("-inf"))
    explicit = (s.softmax(-1) @ v.double().repeat_interleave(2, 1)).float()
    torch.testing.assert_close(flex.flex_tiles(mask, span, span, q, k, v, 0.25), explicit, **CLOSE)
    torch.testing.assert_close(gather.gather_tiles(plan, q, k, v, 0.25, None), explicit, **CLOSE)
    assert plan.pairs == int(kept.sum())
