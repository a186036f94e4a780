"""The dense lowering: a block pattern as one boolean mask. The reference of the other two; it saves nothing, so it is
`simulated`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.attention.lowering.gather import grouped
from harness.attention.mask import AskedMask
from harness.contracts.call import Blocks


def dense_mask(blocks: Blocks, meta: AskedMask, n_heads: int) -> Tensor:
    """bool `[B, H | 1, n_q, n_k]`: pattern AND the model's mask AND padding, on logical positions."""
    device = meta.device
    i = torch.arange(meta.q_offset, meta.q_offset + meta.n_q, device=device)
    j = torch.arange(meta.kv_offset, meta.kv_offset + meta.n_k, device=device)
    pad = meta.n_pad[:, None, None, None]
    row, column = i[None, None, :, None] - pad, j[None, None, None, :] - pad
    head = torch.arange(n_heads, device=device)[None, :, None, None] if blocks.per_head else None
    a, c = (x.div(blocks.size, rounding_mode="floor") for x in (row, column))
    mask = blocks.keep(head, a, c) | (a == c)
    if blocks.causal:
        mask = mask & (row >= column)
    if blocks.token is not None:
        mask = mask & blocks.token(row, column)
    return (mask & meta.visible(i, j[None, None])) | (row == column)


def lower_dense(
    blocks: Blocks, meta: AskedMask, q: Tensor, k: Tensor, v: Tensor, scaling: float, sinks: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention `[B, H, n_q, D]` under the mask, and the pairs that all heads of each sample read (a tensor `[B]`)."""
    mask = dense_mask(blocks, meta, q.shape[1])
    real = mask & meta.real(q.shape[0])[:, None, :, None]
    return grouped(q, k, v, mask, scaling, sinks), real.sum((1, 2, 3)) * (q.shape[1] // mask.shape[1])
