"""H2O, the heavy-hitter oracle (Zhang et al. 2023, arXiv 2306.14048): keep the keys that received most attention so
far.

Every key collects the attention it got from all queries at or after it, score_j = sum_i A_ij; whenever a layer holds
more than heavy + recent keys, the `heavy` best of the older ones and the `recent` newest stay and the rest is dropped
for good.

Three released variants differ; this is `drop` (utils_real_drop): real eviction, causal accumulation, scores of dropped
keys are lost, positions stay true. Not offered: the masks of `utils_hh`, and `utils_lm_eval`, whose one set for all
rows uses later queries. `heavy` and `recent`: below 1 a share of the prompt (paper: 0.1 and 0.1), otherwise tokens
(released script: 1024 and 1024). Column sums favour early tokens, which more queries see. Its scripts prefill the whole
prompt (run_summarization.py): `question: prefill`; with `decode` the shares are those of the context.

Deviations: with grouped heads the scores are summed over the query heads of a key head, because they share its cache
(the reference repeats key heads); scores are kept per sample (the reference sums over the batch). Cost: the prompt's
attention weights are computed a second time, in strips of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.contracts.call import Call
from harness.contracts.method import AfterContext
from methods.cache.rows import attention_rows

if TYPE_CHECKING:
    from torch import Tensor

STRIP = 256  # query rows whose weights are held at once


@dataclass(frozen=True, kw_only=True)
class HeavyHitters(AfterContext):
    """Eviction by accumulated attention."""

    name = "h2o"
    title = "H2O: heavy hitters and recent tokens"
    paper = "2306.14048"
    budget_unit = "tokens that stay in the cache (share of the prompt, or a number)"
    batching = "equal"
    options = {
        "heavy": "keys kept for their accumulated attention: share of the prompt if below 1, else tokens",
        "recent": "newest keys kept: share of the prompt if below 1, else tokens",
        "variant": "drop: real eviction (the only one offered)",
    } | AfterContext.options

    heavy: float = 0.1
    recent: float = 0.1
    variant: str = "drop"

    def validate(self) -> None:
        super().validate()
        self.require(self.heavy > 0, "heavy", "at least one heavy hitter must stay")
        self.require(self.recent > 0, "recent", "at least one recent key must stay")
        self.require(self.variant == "drop", "variant", "only 'drop' (real eviction) is implemented")

    def sizes(self, n: int) -> tuple[int, int]:
        """(heavy, recent) in tokens for a prompt of `n`."""
        return tokens(self.heavy, n), tokens(self.recent, n)

    def idle(self, n: int) -> str:
        heavy, recent = self.sizes(n)
        if heavy + recent < n:
            return ""
        return (
            f"{heavy} heavy and {recent} recent keys cover the whole context of {n} tokens; "
            f"{self.lower(heavy=recent + 1 < n, recent=heavy + 1 < n)}"
        )

    def edit_cache(self, ctx: Call, layer_cache: Any) -> Tensor | None:
        import torch

        keys = layer_cache.keys
        if ctx.q_offset == 0:
            ctx.state["sizes"] = self.sizes(keys.shape[2])
        if ("scores", 1) in ctx.state:
            scores = self.received(ctx, keys)
            scores[..., : ctx.state["scores", 1].shape[-1]] += ctx.state["scores", 1]
        else:
            scores = ctx.once("h2o", lambda: self.received(ctx, keys))
        heavy, recent = ctx.state["sizes"]
        n = keys.shape[2]
        if n <= heavy + recent:
            ctx.state["scores", 1] = scores
            return None
        best = scores[..., : n - recent].topk(heavy, dim=-1).indices.sort(dim=-1).values
        newest = torch.arange(n - recent, n, device=keys.device).expand(*best.shape[:2], -1)
        kept = torch.cat((best, newest), dim=-1)
        ctx.state["scores", 1] = scores.gather(-1, kept)
        return kept

    def received(self, ctx: Call, keys: Tensor) -> Tensor:
        """Attention that every key gets from the queries of this forward, float32 `[B, H_kv, n]`."""
        assert ctx.q is not None
        n_q = ctx.q.shape[2]
        strips = (slice(top, min(top + STRIP, n_q)) for top in range(0, n_q, STRIP))
        total = sum(attention_rows(ctx, keys, rows).sum(dim=2) for rows in strips)
        return total.unflatten(1, (keys.shape[1], -1)).sum(dim=2)  # type: ignore[union-attr]


def tokens(size: float, n: int) -> int:
    """A share of `n` (at least one token) if below 1, else a number of tokens."""
    return max(1, int(size * n)) if size < 1 else int(size)
