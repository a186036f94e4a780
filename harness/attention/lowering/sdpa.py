"""One call of scaled dot-product attention in the layout that all lowerings share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, sinks: Tensor | None = None) -> Tensor:
    """softmax(scaling * q k^T) v for G query heads on each key head; returns `[N, M, G, L, D]`.

    q `[N, M, G, L, D]`, k and v `[N, M, S, D]`, mask bool, broadcasting to `[N, M, G, L, S]`, True where a key is read;
    every row must read at least one key. sinks broadcasting to `[N, M, G]`: a learned logit that takes part in the
    softmax and is then dropped (gpt-oss), done by one more key of zeros whose bias is that logit.
    """
    n, m, g, rows, d = q.shape
    if sinks is not None:
        mask = _with_sinks(mask, k.shape[2], sinks[..., None, None].to(q.dtype), rows)
        k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))
    if mask is not None and g > 1:
        mask = mask.expand(*mask.shape[:2], g, rows, mask.shape[-1])
    if mask is not None:
        mask = mask.reshape(*mask.shape[:2], g * rows, mask.shape[-1])
    out = F.scaled_dot_product_attention(q.reshape(n, m, g * rows, d), k, v, attn_mask=mask, scale=scaling)
    return out.view(n, m, g, rows, v.shape[-1])


def _with_sinks(mask: Tensor | None, n_k: int, sinks: Tensor, rows: int) -> Tensor:
    """The additive mask with one more column, `[.., G, rows, n_k + 1]`."""
    if mask is None:
        mask = torch.ones(1, 1, 1, 1, n_k, dtype=torch.bool, device=sinks.device)
    bias = torch.zeros(mask.shape, dtype=sinks.dtype, device=sinks.device).masked_fill_(~mask, float("-inf"))
    shape = torch.broadcast_shapes((*bias.shape[:3], rows, 1), (*sinks.shape[:3], rows, 1))
    return torch.cat((bias.expand(*shape[:-1], n_k), sinks.expand(shape)), dim=-1)
