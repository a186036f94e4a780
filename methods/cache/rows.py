"""What methods share that decide after the prompt which of its keys stay: attention weights of a few query rows to decide
from, and what decode reads then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.contracts.call import Call

if TYPE_CHECKING:
    from torch import Tensor


def attention_rows(ctx: Call, keys: Tensor, rows: slice) -> Tensor:
    """float32 softmax weights `[B, H, rows, n]` of queries `ctx.q[:, :, rows]` over `keys` `[B, H_kv, n, D]`.

    The model's own mask applies (causal, sliding), and so do its sink logits: they take their share and are dropped.
    """
    import torch

    assert ctx.q is not None and ctx.visible is not None
    q = ctx.q[:, :, rows].unflatten(1, (keys.shape[1], -1))  # [B, H_kv, G, rows, D]
    scores = (q @ keys[:, :, None].transpose(-1, -2)).float() * ctx.scaling
    scores = scores.masked_fill(~ctx.visible(rows)[:, :, None], float("-inf"))
    sinks = ctx.view.sinks(ctx.layer)
    if sinks is not None:
        extra = sinks.float().view(1, keys.shape[1], -1, 1, 1).expand(*scores.shape[:-1], 1)
        scores = torch.cat((scores, extra), dim=-1)
    return scores.softmax(dim=-1)[..., : keys.shape[2]].flatten(1, 2)


def with_new(kept: Tensor, prompt: int, n: int) -> Tensor:
    """Columns `[B, h, m]` that stayed of a prompt of `prompt` tokens, and all columns up to `n` since."""
    import torch

    new = torch.arange(prompt, n, device=kept.device).expand(*kept.shape[:2], -1)
    return torch.cat((kept, new), dim=-1)
