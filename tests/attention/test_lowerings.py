"""The three lowerings of one pattern agree with each other and with an explicit mask; what they read is counted
exactly.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.attention.attach import attach
from harness.attention.lowering import flex
from harness.attention.lowering.tiles import build, pairs, table
from harness.contracts.call import Blocks, Call
from harness.contracts.method import Method
from methods.patterns.dilated import DilatedWindow
from methods.patterns.longnet import LongNet
from methods.patterns.power import PowerAttention
from methods.patterns.sliding import SlidingWindow
from methods.patterns.static import StaticPattern
from methods.patterns.streaming import StreamingMask
from methods.patterns.stride_slash import StrideSlash
from tests import tiny

PATTERNS = (
    PowerAttention(block_size=8, window_blocks=2),
    SlidingWindow(block_size=8, window_blocks=2),
    StrideSlash(block_size=8, window_blocks=1, stride=3),
    DilatedWindow(block_size=8, span_blocks=6),
    LongNet(block_size=8, widths=(2, 4, 8), rates=(1, 2, 4)),
    StreamingMask(block_size=16, sinks=4, recent=24),
)
by_pattern = pytest.mark.parametrize("method", PATTERNS, ids=lambda m: m.name)
CLOSE = {"rtol": 1e-4, "atol": 5e-5}


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def padded(n: int, *lengths: int) -> Tensor:
    return torch.stack([(torch.arange(n) >= n - length).long() for length in lengths])


def logits(family: str, method: Method, ids: Tensor, lowering: str, mask: Tensor | None = None) -> tuple[Tensor, dict]:
    view = tiny.view(family)
    extra = {} if mask is None else {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    with attach(view, method, lowering) as attached:
        return view.model(ids, **extra).logits, attached.report()


def real(values: Tensor, mask: Tensor) -> Tensor:
    return values[mask.bool()]


@by_pattern
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "gpt_oss"])
def test_gather_equals_the_dense_mask(method: StaticPattern, family: str) -> None:
    ids, mask = tiny.ids(150, 2), padded(150, 109, 150)
    dense, by_mask = logits(family, method, ids, "dense", mask)
    gather, by_gather = logits(family, method, ids, "gather", mask)
    torch.testing.assert_close(real(gather, mask), real(dense, mask), **CLOSE)
    assert not torch.isnan(gather).any() and not torch.isnan(dense).any()
    assert by_mask["pairs_read"] == by_gather["pairs_read"] < by_gather["pairs_visible"] == by_mask["pairs_visible"]
    assert by_mask["simulated"] and not by_gather["simulated"]


@pytest.mark.slow
@by_pattern
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_compiled_flex_equals_the_dense_mask(
    method: StaticPattern, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = replace(method, block_size=16)  # the smallest that is compiled
    calls, kernel = [], flex.flex_tiles
    monkeypatch.setattr(flex, "flex_tiles", lambda *args: calls.append(1) or kernel(*args))
    ids, mask = tiny.ids(150, 2), padded(150, 109, 150)
    dense, by_mask = logits(family, method, ids, "dense", mask)
    compiled, by_flex = logits(family, method, ids, "flex", mask)
    torch.testing.assert_close(real(compiled, mask), real(dense, mask), **CLOSE)
    assert calls and by_flex["pairs_read"] == by_mask["pairs_read"] and not by_flex["simulated"]


def test_blocks_that_the_cpu_kernel_gets_wrong_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "flex_tiles", lambda *args: pytest.fail("compiled with blocks of 8"))
    ids = tiny.ids(90)
    assert torch.equal(*(logits("llama", PATTERNS[0], ids, how)[0] for how in ("flex", "gather")))


@pytest.mark.slow
def test_flex_takes_lists_per_head_and_a_prompt_in_pieces() -> None:
    method = PerHead(size=16)
    view, ids = tiny.view("llama"), tiny.ids(120)
    dense, _ = logits("llama", method, ids, "dense")
    with attach(view, method, "flex") as attached:
        first = view.model(ids[:, :71], past_key_values=attached.new_cache(), use_cache=True)
        second = view.model(ids[:, 71:], past_key_values=first.past_key_values)
    torch.testing.assert_close(torch.cat((first.logits, second.logits), dim=1), dense, **CLOSE)


@by_pattern
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_a_pattern_equals_an_explicit_mask_and_the_models_window(method: StaticPattern, family: str) -> None:
    n, window = 100, tiny.WINDOW if family == "mistral" else 10**6
    i, j = torch.arange(n)[:, None], torch.arange(n)[None, :]
    mask = (j <= i) & (i - j < window) & method.keep(None, i // method.block_size, j // method.block_size)
    blocks = method.blocks()
    mask = mask & blocks.token(i, j) if blocks.token else mask
    explicit = tiny.view(family).model(tiny.ids(n), attention_mask=mask[None, None]).logits
    ours, usage = logits(family, method, tiny.ids(n), "gather")
    torch.testing.assert_close(ours, explicit, **CLOSE)
    assert usage["pairs_read"] == int(mask.sum()) * 3 * 4  # layers x heads


@by_pattern
def test_greedy_tokens_agree_for_twelve_steps_in_a_padded_batch(method: StaticPattern) -> None:
    view, ids, mask = tiny.view("gemma3"), tiny.ids(80, 2), padded(80, 57, 80)
    tokens = []
    for lowering in ("dense", "gather"):
        with attach(view, method, lowering):
            out = view.model.generate(ids, attention_mask=mask, max_new_tokens=12, min_new_tokens=12, do_sample=False)
            tokens.append(out)
    assert torch.equal(*tokens)


GOLDEN = {  # allowed (i, j) pairs, exact
    "power": (5244928, 70598656, 351535104),
    "sliding": (7014400, 76759040, 315883520),
    "dilated": (4196352, 73809920, 312934400),
    "stride_slash": (5441536, 65552384, 467468288),
    "longnet": (5244928, 49299456, 197197824),
}
PUBLISHED = (PowerAttention(), SlidingWindow(), DilatedWindow(), StrideSlash(), LongNet())


@pytest.mark.parametrize("method", PUBLISHED, ids=lambda m: m.name)
def test_pair_counts_of_the_published_settings(method: StaticPattern) -> None:
    for n, expected in zip((4096, 32768, 131072), GOLDEN[method.name], strict=True):
        assert pairs(method.blocks(), n) == expected


@pytest.mark.parametrize("method", PUBLISHED, ids=lambda m: m.name)
def test_the_plan_counts_what_the_block_arithmetic_counts(method: StaticPattern) -> None:
    span = range(4096)
    assert build(method.blocks(), span, span, None, "cpu").pairs == GOLDEN[method.name][0]


def test_density_of_power_relative_to_causal() -> None:
    lengths = (4096, 8192, 16384, 32768, 65536, 131072)
    densities = [pairs(PowerAttention().blocks(), n) / (n * (n + 1) // 2) for n in lengths]
    assert [round(d, 4) for d in densities] == [0.6251, 0.3887, 0.2295, 0.1315, 0.0739, 0.0409]


def test_row_63_of_power_and_the_largest_row() -> None:
    blocks = PowerAttention().blocks()
    assert table(blocks, range(63, 64), range(64))[0].nonzero()[:, 0].tolist() == [0, 31, 47, 55, 59, 60, 61, 62, 63]
    rows = {n: int(table(blocks, range(n // 256), range(n // 256)).sum(1).max()) for n in (32768, 65536, 131072)}
    assert rows == {32768: 10, 65536: 11, 131072: 12}


class PerHead(Method):
    """A different window for every head, to exercise lists per head."""

    name = "per_head"

    def __init__(self, size: int) -> None:
        object.__setattr__(self, "size", size)

    def keep(self, h: object, a: Tensor, c: Tensor) -> Tensor:
        return (a - c <= h) | (c == 0)  # type: ignore[operator]

    def pattern(self, ctx: Call, q: Tensor, k: Tensor) -> Blocks:
        return Blocks(self.size, self.keep, per_head=True)  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", ["llama", "gpt_oss"])
def test_heads_may_have_patterns_of_their_own(family: str) -> None:
    ids, mask = tiny.ids(90, 2), padded(90, 61, 90)
    dense, by_mask = logits(family, PerHead(8), ids, "dense", mask)
    gather, by_gather = logits(family, PerHead(8), ids, "gather", mask)
    torch.testing.assert_close(real(gather, mask), real(dense, mask), **CLOSE)
    assert by_gather["pairs_read"] == by_mask["pairs_read"] < by_mask["pairs_visible"]


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_the_backend_underneath_does_not_matter(backend: str) -> None:
    view, ids = tiny.fresh_view("llama", attn=backend), tiny.ids(70)
    with attach(view, PATTERNS[0]):
        ours = view.model(ids).logits
    torch.testing.assert_close(ours, logits("llama", PATTERNS[0], ids, "dense")[0], **CLOSE)
    assert view.attn_setting() == backend


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_right_padding_is_no_key_and_no_row(family: str) -> None:
    ids, lengths = tiny.ids(90, 2), (61, 90)
    mask = torch.stack([(torch.arange(90) < n).long() for n in lengths])
    together, usage = logits(family, PATTERNS[0], ids, "gather", mask)
    counted = 0
    for b, n in enumerate(lengths):
        alone, one = logits(family, PATTERNS[0], ids[b : b + 1, :n], "gather")
        torch.testing.assert_close(together[b : b + 1, :n], alone, **CLOSE)
        counted += one["pairs_read"]
    assert usage["pairs_read"] == counted


def test_holes_in_the_attention_mask_are_refused() -> None:
    mask = torch.ones(1, 40, dtype=torch.long)
    mask[0, 10] = 0
    with pytest.raises(Exception, match="holes"):
        logits("llama", PATTERNS[0], tiny.ids(40), "gather", mask)
