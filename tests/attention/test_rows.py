"""Row-split attention equals the library's eager attention with the same edit: padded batches, caches, grouped heads,
windows.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.llama.modeling_llama import eager_attention_forward

from harness.attention import edited_rows as module
from harness.attention.edited_rows import edit_rows

HEADS, D = 6, 8


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def qkv(kv_heads: int, n_q: int, n_k: int, dtype: torch.dtype, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    return (
        2 * random(batch, HEADS, n_q, D, dtype=dtype),
        2 * random(batch, kv_heads, n_k, D, seed=1, dtype=dtype),
        random(batch, kv_heads, n_k, D, seed=2, dtype=dtype),
    )


def visible(n_q: int, n_k: int, pads: tuple[int, ...], window: int = 10**6) -> Tensor:
    """bool `[B, 1, n_q, n_k]`: causal, a window, left padding; a row always sees itself."""
    i, j = torch.arange(n_k - n_q, n_k)[:, None], torch.arange(n_k)[None]
    seen = (j <= i) & (i - j < window) & (j >= torch.tensor(pads)[:, None, None])
    return (seen | (i == j))[:, None]


def own(q: Tensor, k: Tensor, v: Tensor, shown: Tensor) -> Tensor:
    """What the model's own attention gives, `[B, H, n_q, D]`."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=shown, scale=D**-0.5, enable_gqa=True)


def eager(q: Tensor, k: Tensor, v: Tensor, shown: Tensor, bias: Tensor | None = None) -> Tensor:
    """The library's eager attention, with an additive edit of the scores."""
    mask = torch.zeros(shown.shape, dtype=q.dtype).masked_fill(~shown, torch.finfo(q.dtype).min)
    owner = SimpleNamespace(num_key_value_groups=HEADS // k.shape[1], training=False)
    out, _ = eager_attention_forward(owner, q, k, v, mask if bias is None else mask + bias, scaling=D**-0.5)  # type: ignore[arg-type]
    return out.transpose(1, 2)


def explicit(q: Tensor, k: Tensor, v: Tensor, shown: Tensor, scores, probs) -> Tensor:
    """The edit in full maths: keys repeated, every row, one softmax."""
    k, v = (x.repeat_interleave(HEADS // x.shape[1], dim=1) for x in (k, v))
    s = q @ k.transpose(-1, -2) * D**-0.5
    a = scores(s).masked_fill(~shown, float("-inf")).softmax(-1)
    return probs(a) @ v


def boost(columns: Tensor):
    """PAI's edit on the given columns."""
    return lambda s: s + 0.5 * s.abs() * columns


def halve(a: Tensor) -> Tensor:
    """Some change of the weights that depends on them."""
    return a * a


cases = pytest.mark.parametrize(
    ("kv_heads", "n_q", "n_k", "pads", "window"),
    [(6, 30, 30, (0, 0), 10**6), (2, 30, 30, (0, 9), 10**6), (3, 7, 30, (0, 9), 10**6), (2, 1, 30, (4, 0), 10**6),
     (2, 30, 30, (0, 9), 8), (1, 1, 30, (0, 9), 8)],
)  # fmt: skip
dtypes = pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])


@cases
@dtypes
def test_the_last_row_equals_the_librarys_eager_attention(kv_heads, n_q, n_k, pads, window, dtype, atol) -> None:
    q, k, v = qkv(kv_heads, n_q, n_k, dtype)
    shown, columns = visible(n_q, n_k, pads, window), torch.zeros(n_k, dtype=dtype)
    columns[10:25] = 1
    s = (q @ k.repeat_interleave(HEADS // kv_heads, 1).transpose(-1, -2)) * D**-0.5
    bias = torch.zeros_like(s)
    bias[:, :, -1] = 0.5 * s[:, :, -1].abs() * columns
    before = own(q, k, v, shown)
    edited = torch.ones(2, 1, dtype=torch.bool)
    out = edit_rows(before, q, k, v, slice(-1, None), shown[:, :, -1:], edited, D**-0.5, boost(columns))
    # the library's softmax is in float32 whatever the model
    torch.testing.assert_close(out, eager(q, k, v, shown, bias), rtol=0, atol=max(atol, 2e-6))
    reference = explicit(q, k, v, shown, boost(columns), lambda a: a)
    torch.testing.assert_close(out[:, :, -1], reference[:, :, -1], rtol=0, atol=atol)
    assert torch.equal(out[:, :, :-1], before[:, :, :-1])
    assert not torch.allclose(out[:, :, -1], before[:, :, -1], atol=1e-2)
    assert torch.equal(before, own(q, k, v, shown))  # what came in is not written to


@cases
@dtypes
def test_many_rows_equal_the_same_edit_in_full_maths(
    kv_heads, n_q, n_k, pads, window, dtype, atol, monkeypatch
) -> None:
    q, k, v = qkv(kv_heads, n_q, n_k, dtype)
    shown, rows = visible(n_q, n_k, pads, window), slice(n_q // 3, None)
    columns = torch.zeros(n_k, dtype=dtype).index_fill(0, torch.arange(10, 25), 1)
    edited = torch.ones(2, n_q - n_q // 3, dtype=torch.bool)
    edited[1, :3] = False
    before = own(q, k, v, shown)
    reference = explicit(q, k, v, shown, boost(columns), halve)
    for limit in (module.LIMIT, 1, 7 * module.COPIES * dtype.itemsize * 2 * HEADS * n_k):
        monkeypatch.setattr(module, "LIMIT", limit)
        part = shown[:, :, rows]
        out = edit_rows(before, q, k, v, rows, part, edited, D**-0.5, boost(columns), halve)
        kept = F.pad(~edited, (n_q // 3, 0), value=True)[:, None, :, None].expand_as(out)
        assert torch.equal(out[kept], before[kept])
        torch.testing.assert_close(out[~kept], reference[~kept], rtol=0, atol=atol)


def test_the_hooks_see_pieces_within_the_limit(monkeypatch) -> None:
    q, k, v = qkv(2, 20, 20, torch.float32)
    seen = []
    monkeypatch.setattr(module, "LIMIT", 6 * module.COPIES * 4 * 2 * HEADS * 20)
    everything = torch.ones(2, 15, dtype=torch.bool)
    shown = visible(20, 20, (0, 0))
    edit_rows(
        own(q, k, v, shown), q, k, v, slice(5, 20), shown[:, :, 5:], everything, 1.0, lambda s: seen.append(s.shape)
    )
    assert seen == [(2, HEADS, n, 20) for n in (6, 6, 3)]


@pytest.mark.parametrize("hooks", [(None, None), (lambda s: None, None), (lambda s: None, lambda a: None)])
def test_none_from_every_hook_leaves_the_output_bit_for_bit(hooks) -> None:
    q, k, v = qkv(2, 9, 9, torch.float32)
    shown = visible(9, 9, (0, 2))
    before = own(q, k, v, shown)
    out = edit_rows(before, q, k, v, slice(0, 9), shown, torch.ones(2, 9, dtype=torch.bool), D**-0.5, *hooks)
    assert out is before


def test_unedited_rows_are_computed_alike_so_the_split_itself_changes_nothing() -> None:
    q, k, v = qkv(2, 9, 9, torch.float32)
    shown = visible(9, 9, (0, 2))
    before = own(q, k, v, shown)
    everything = torch.ones(2, 9, dtype=torch.bool)
    out = edit_rows(before, q, k, v, slice(0, 9), shown, everything, D**-0.5, lambda s: s, lambda a: a)
    torch.testing.assert_close(out, before, rtol=0, atol=1e-6)


def test_sink_logits_take_their_share_and_scores_are_capped_first() -> None:
    q, k, v = qkv(2, 9, 9, torch.float64)
    shown, sinks, cap, seen = visible(9, 9, (0, 2)), random(HEADS, seed=3), 3.0, []
    k_all, v_all = (x.repeat_interleave(3, dim=1) for x in (k, v))
    s = cap * torch.tanh(q @ k_all.transpose(-1, -2) * D**-0.5 / cap)
    full = torch.cat((s.masked_fill(~shown, float("-inf")), sinks[None, :, None, None].expand(2, -1, 9, 1)), -1)
    a = full.softmax(-1)[..., :-1]

    def probs(weights: Tensor) -> Tensor:
        seen.append(weights)
        return 2 * weights

    everything = torch.ones(2, 9, dtype=torch.bool)
    out = edit_rows(
        torch.zeros_like(q), q, k, v, slice(0, 9), shown, everything, D**-0.5, probs=probs, sinks=sinks, softcap=cap
    )
    torch.testing.assert_close(seen[0], a)
    torch.testing.assert_close(out, 2 * a @ v_all)


def test_half_precision_rows_stay_near_what_sdpa_gives() -> None:
    q, k, v = qkv(2, 40, 40, torch.bfloat16)
    shown = visible(40, 40, (0, 5))
    before = own(q, k, v, shown)
    everything = torch.ones(2, 40, dtype=torch.bool)
    out = edit_rows(before, q, k, v, slice(0, 40), shown, everything, D**-0.5, lambda s: s)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, before, rtol=0, atol=2e-2)


def test_a_mask_for_each_key_head_is_honoured() -> None:
    q, k, v = qkv(2, 5, 12, torch.float64)
    shown = torch.rand(2, 2, 5, 12, generator=torch.Generator().manual_seed(4)) < 0.5
    shown[..., -1] = True
    everything = torch.ones(2, 5, dtype=torch.bool)
    out = edit_rows(torch.zeros_like(q), q, k, v, slice(0, 5), shown, everything, D**-0.5, lambda s: s)
    reference = explicit(q, k, v, shown.repeat_interleave(3, dim=1), lambda s: s, lambda a: a)
    torch.testing.assert_close(out, reference)


def test_rows_of_padding_give_numbers() -> None:
    q, k, v = qkv(2, 6, 6, torch.float32)
    shown = torch.zeros(2, 1, 6, 6, dtype=torch.bool)
    everything = torch.ones(2, 6, dtype=torch.bool)
    out = edit_rows(torch.zeros_like(q), q, k, v, slice(0, 6), shown, everything, D**-0.5, lambda s: s)
    assert not out.isnan().any()
