"""Row-split attention: SDPA computes all query rows, and the few rows that a method edits are computed again in explicit
maths.

Editing scores or weights needs them in memory, which the fused kernels avoid. Methods edit one
row of a prompt, or those after an image, so only these pay (and in decode the one row there is).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LIMIT = 256 << 20  # bytes of scores, weights and their edited copies that may exist at once
COPIES = 4  # what is alive at the worst moment: scores, the edited ones, the mask's copy, weights

Edit = Callable[[Tensor], Tensor | None]


def edit_rows(
    out: Tensor | None, q: Tensor, k: Tensor, v: Tensor, rows: slice, shown: Tensor, edited: Tensor, scaling: float,
    scores: Edit | None = None, probs: Edit | None = None, sinks: Tensor | None = None, softcap: float | None = None,
) -> Tensor | None:  # fmt: skip
    """`out` `[B, H, n_q, D]` (the model's own attention) with the rows that a method edits overwritten, as a new tensor;
    `out` itself if it left them all alone. `out` may be None where `rows` are all rows and all of them are edited (a
    decode step): then nothing is computed twice, and None comes back if the method left them alone.

    q `[B, H, n_q, D]`, k and v `[B, H_kv, n_k, D]`. `rows`: the R query rows to compute again; `shown` bool `[B, 1 | H_kv,
    R, n_k]`: what the model shows to them; `edited` bool `[B, R]`: which of them are overwritten. `scores(s)` takes scaled
    (and soft-capped) scores `[B, H, R, n_k]` before the mask, `probs(a)` weights after the softmax; both in float32 (in
    float64 for a float64 model), and both return the edited tensor or None. With None from both a row keeps what it had,
    bit for bit. `sinks` `[H]`: learned logits that take their share of the softmax and are then dropped.

    Many rows are taken in pieces, so that about `LIMIT` bytes exist at once; the hooks are called once for each piece.
    """
    start, stop, _ = rows.indices(q.shape[2])
    exact = torch.promote_types(q.dtype, torch.float32)
    keys = k.to(exact).transpose(-1, -2)
    result = out
    step = max(1, LIMIT // (COPIES * exact.itemsize * q.shape[0] * q.shape[1] * k.shape[2]))
    for first in range(start, stop, step):
        piece = slice(first, min(first + step, stop))
        local = slice(piece.start - start, piece.stop - start)
        new = _attend(q[:, :, piece].to(exact), keys, v, shown[:, :, local], scaling, scores, probs, sinks, softcap)
        if new is not None:
            if out is None:
                result = (
                    torch.empty(*q.shape[:3], v.shape[3], dtype=new.dtype, device=q.device)
                    if result is None
                    else result
                )
                result[:, :, piece] = new
                continue
            assert result is not None
            result = out.clone() if result is out else result
            result[:, :, piece] = torch.where(edited[:, None, local, None], new, out[:, :, piece])
    return result


def _attend(
    q: Tensor, keys: Tensor, v: Tensor, shown: Tensor, scaling: float,
    scores: Edit | None, probs: Edit | None, sinks: Tensor | None, softcap: float | None,
) -> Tensor | None:  # fmt: skip
    """Edited attention of q `[B, H, R, D]` to keys `[B, H_kv, D, n_k]`; None if no hook changed anything. The query heads
    of a key head are folded into its rows, so that no key is repeated.
    """
    kv_heads, n_rows = keys.shape[1], q.shape[2]
    s = raw_scores(q, keys, scaling, softcap)
    new_s = scores(s) if scores is not None else None
    if new_s is None and probs is None:
        return None
    a = _softmax(s if new_s is None else new_s, shown, sinks)
    del s
    new_a = probs(a) if probs is not None else None
    if new_s is None and new_a is None:
        return None
    a = (a if new_a is None else new_a).to(v.dtype)
    return (a.reshape(a.shape[0], kv_heads, -1, a.shape[3]) @ v).view(*a.shape[:2], n_rows, -1)


def raw_scores(q: Tensor, keys: Tensor, scaling: float, softcap: float | None) -> Tensor:
    """Scaled (and soft-capped) scores `[B, H, R, n_k]` of q `[B, H, R, D]` and keys `[B, H_kv, D, n_k]`."""
    s = (q.reshape(q.shape[0], keys.shape[1], -1, q.shape[3]) @ keys).mul_(scaling).view(*q.shape[:3], -1)
    return s if softcap is None else s.div_(softcap).tanh_().mul_(softcap)


def masked(s: Tensor, shown: Tensor) -> Tensor:
    """Scores `[B, H, R, n_k]` without what bool `[B, 1 | H_kv, R, n_k]` does not show."""
    grouped = s.unflatten(1, (shown.shape[1], -1))
    return grouped.masked_fill(~shown[:, :, None], torch.finfo(s.dtype).min).flatten(1, 2)


def _softmax(s: Tensor, shown: Tensor, sinks: Tensor | None) -> Tensor:
    """Weights `[B, H, R, n_k]`. A row that is shown nothing (padding) gets uniform weights, as in the eager maths, never
    NaN.
    """
    s = masked(s, shown)
    if sinks is None:
        return s.softmax(dim=-1)
    extra = sinks.to(s.dtype)[None, :, None, None].expand(*s.shape[:-1], 1)
    return torch.cat((s, extra), dim=-1).softmax(dim=-1)[..., :-1]
