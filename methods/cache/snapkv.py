"""SnapKV (Li et al. 2024, arXiv 2404.14469): after the prompt, keep the keys its last queries looked at.

With A the attention weights of the last `window` queries (causal inside the window), every earlier key j gets the vote

    vote_j = pool_kernel( sum_{i in window} A_ij ),

and the (capacity - window) keys with the largest votes stay, next to the window itself. Once, at the end of the prompt,
and only if the prompt has at least `capacity` tokens; decode then adds its own keys. Defaults of the released code for
its models: window 32, capacity 2048, kernel 5, average pooling (its LongBench runs: kernel 7, maximum, capacity 1024 to
4096).

`share`: the released code repeats key heads, so every query head keeps its own set and the cache grows with the group
size. `per_head` computes exactly that reading, but from the full cache (nothing is dropped, so no memory is saved);
`group` (default) averages the pooled votes over the query heads of a key head, as kvpress does, and really drops the
rest. `question: prefill` is the release's protocol (LongBench/pred_snap.py generates from the whole prompt): the question
is in the window and votes. With `question: decode` the last queries of the context vote. Prompts of one length per batch;
the prompt must come in one piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from harness.contracts.call import Call
from harness.contracts.method import AfterContext
from harness.contracts.options import Within
from methods.cache.rows import attention_rows, with_new

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SnapKV(AfterContext):
    """Prompt compression by the votes of an observation window."""

    name = "snapkv"
    title = "SnapKV: prompt compression by an observation window"
    paper = "2404.14469"
    budget_unit = "tokens of the prompt that stay in the cache"
    budget_on = "prompt"
    batching = "equal"
    options = {
        "window": "last queries of the prompt that vote, and whose keys always stay",
        "capacity": "keys that stay after the prompt, the window included",
        "kernel": "width of the pooling over neighbouring keys, odd",
        "pool": "avg or max",
        "share": "group: one set for each key head; per_head: one for each query head (reads less, saves no memory)",
    } | AfterContext.options

    window: int = 32
    capacity: int = 2048
    kernel: Annotated[int, Within(1, 65535)] = 5
    pool: Literal["avg", "max"] = "avg"
    share: Literal["group", "per_head"] = "group"

    def validate(self) -> None:
        super().validate()
        self.require(self.window >= 1, "window", "at least one query must vote")
        self.require(self.capacity > self.window, "capacity", f"it must exceed window ({self.window})")
        self.require(self.kernel >= 1 and self.kernel % 2 == 1, "kernel", "it must be odd and positive")
        self.require(self.pool in ("avg", "max"), "pool", "it is 'avg' or 'max'")
        self.require(self.share in ("group", "per_head"), "share", "it is 'group' or 'per_head'")

    def idle(self, n: int) -> str:
        if n > self.capacity:
            return ""
        return f"capacity {self.capacity} covers the whole prompt (context of {n} tokens); {self.lower(capacity=True)}"

    def edit_cache(self, ctx: Call, layer_cache: Any) -> Tensor | None:
        keys = layer_cache.keys
        if ctx.q_offset > 0 or keys.shape[2] <= self.capacity:
            return None
        votes = ("snapkv", self.window, self.kernel, self.pool, self.share)  # all but the capacity, which cuts
        kept = self.kept(ctx.once(votes, lambda: self.votes(ctx, keys)))
        if self.share == "group":
            return kept
        ctx.state["kept"], ctx.state["prompt"] = kept, keys.shape[2]
        return None

    def select(self, ctx: Call, q: Tensor, k: Tensor) -> Tensor | None:
        return with_new(ctx.state["kept"], ctx.state["prompt"], k.shape[2]) if "kept" in ctx.state else None

    def votes(self, ctx: Call, keys: Tensor) -> Tensor:
        """Pooled votes `[B, H_kv or H, n - window]` for the keys before the window."""
        import torch.nn.functional as F

        window = attention_rows(ctx, keys, slice(ctx.q.shape[2] - self.window, None))  # type: ignore[union-attr]
        votes = window[..., : -self.window].sum(dim=2)
        pool = F.avg_pool1d if self.pool == "avg" else F.max_pool1d
        pooled = pool(votes, kernel_size=self.kernel, stride=1, padding=self.kernel // 2)
        return pooled.unflatten(1, (keys.shape[1], -1)).mean(2) if self.share == "group" else pooled

    def kept(self, votes: Tensor) -> Tensor:
        """Columns that stay, ascending: the best `capacity - window` of the votes, and the window."""
        import torch

        best = votes.topk(self.capacity - self.window, dim=-1).indices.sort(dim=-1).values
        n = votes.shape[-1]
        window = torch.arange(n, n + self.window, device=votes.device).expand(*best.shape[:2], -1)
        return torch.cat((best, window), dim=-1)
