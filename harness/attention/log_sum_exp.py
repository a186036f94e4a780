"""The log-sum-exp of attention scores, which fused kernels compute and keep to themselves: with it the weight of any key is
exp(score - lse), so that a softmax can be edited in closed form without its matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.attention.edited_rows import COPIES, LIMIT, masked, raw_scores


def log_sum_exp(
    q: Tensor, k: Tensor, shown: Callable[[slice], Tensor], scaling: float, sinks: Tensor | None, softcap: float | None
) -> Tensor:
    """`[B, H, R]` (float32; float64 for a float64 model) for q `[B, H, R, D]` and k `[B, H_kv, n_k, D]`.

    `shown(rows)` bool `[B, 1 | H_kv, rows, n_k]`: what the model shows to some of the rows. The scores are scaled and
    soft-capped, and sink logits `[H]` are among them, as in the softmax of the model. Rows are taken in pieces, so that about
    `edited_rows.LIMIT` bytes exist at once.
    """
    exact = torch.promote_types(q.dtype, torch.float32)
    keys = k.to(exact).transpose(-1, -2)
    step = max(1, LIMIT // (COPIES * exact.itemsize * q.shape[0] * q.shape[1] * k.shape[2]))
    found = []
    for first in range(0, q.shape[2], step):
        rows = slice(first, min(first + step, q.shape[2]))
        s = raw_scores(q[:, :, rows].to(exact), keys, scaling, softcap)
        found.append(masked(s, shown(rows)).logsumexp(-1))
    lse = torch.cat(found, dim=2)
    return lse if sinks is None else torch.logaddexp(lse, sinks.to(exact)[None, :, None])
