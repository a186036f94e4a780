"""Quest (Tang et al. 2024, arXiv 2406.10774): each query reads the pages of the cache that could matter most to it.

For every page of `page` keys the element-wise minimum and maximum are kept. The score of a page for a query head,

    sum_d max(q_d * kmin_d, q_d * kmax_d)  =  relu(q) . kmax + min(q, 0) . kmin,

bounds q . k for all its keys from above; of n keys the max(3, min(n, budget) // page) pages with the largest bound are
read, so a budget beyond the context still leaves one page out unless the last one is full. Decode only: prefill is
dense, and so are the first two layers. The page of the current token is not forced, but counts when it is chosen
(reference code, evaluation/quest_attention.py). Defaults: page 16, budget 1024 (published range 512 to 4096), each query
head chooses for itself.

Its quality runs prefill the context alone and read the end of the prompt token by token under Quest (LongBench/pred.py:
from the last question marker on, at most 100 characters; passkey.py: the last 400 characters): `question: decode`. Where
that end begins is the task's to say here (`Generate.query`).

Ours: `share: group` lets the query heads of a key head choose together by the sum of their scores (cheaper, another
method); pages are counted from the first real token, padding never enters the bounds; on layers with a sliding window
only pages with a visible key can be chosen. Extra memory: 2 D numbers per page and key head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from harness.contracts.call import Call
from harness.contracts.method import AfterContext
from harness.contracts.options import Within
from harness.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

FEWEST = 3  # pages that are always read, as in the reference


@dataclass(frozen=True, kw_only=True)
class Quest(AfterContext):
    """Query-aware page selection in decode."""

    name = "quest"
    title = "Quest: query-aware page selection"
    paper = "2406.10774"
    budget_unit = "tokens read by one query (in whole pages)"
    prefix_safe = True
    options = {
        "page": "tokens in one page",
        "budget": "tokens read in each decode step; max(3, min(keys, budget) // page) pages",
        "dense_layers": "layers at the bottom that stay dense",
        "share": "per_head: every query head chooses; group: the heads of one key head choose together",
    } | AfterContext.options

    page: Annotated[int, Within(1, 65536)] = 16
    budget: int = 1024
    dense_layers: int = 2
    share: Literal["per_head", "group"] = "per_head"
    question: Literal["prefill", "decode"] = "decode"

    def validate(self) -> None:
        super().validate()
        self.require(self.page >= 1, "page", "a page holds at least one token")
        self.require(self.budget >= 1, "budget", "at least one token must be read")
        self.require(self.dense_layers >= 0, "dense_layers", "it cannot be negative")
        self.require(self.share in ("per_head", "group"), "share", "it is 'per_head' or 'group'")

    def check(self, view: Model) -> None:
        if self.dense_layers >= view.n_layers:
            raise UserError(
                f"method.quest.dense_layers is {self.dense_layers}, but the model has {view.n_layers} layers, "
                "so none is left; lower it."
            )

    def layers(self, view: Model) -> list[int]:
        return list(range(self.dense_layers, view.n_layers))

    def idle(self, n: int) -> str:
        read = max(FEWEST, self.budget // self.page)
        if n > max(self.budget, read * self.page):
            return ""
        return (  # the page that rounding leaves out of a shorter context (see `pages_read`) is no choice of the method
            f"{read} pages of {self.page} tokens (budget {self.budget}) cover the whole context of {n} tokens; "
            f"{self.lower(budget=n > FEWEST * self.page, page=n > max(self.budget, FEWEST))}"
        )

    def pages_read(self, n: int) -> int:
        """How many pages are read of a context of `n` tokens."""
        return max(FEWEST, min(n, self.budget) // self.page)

    def select(self, ctx: Call, q: Tensor, k: Tensor) -> Tensor | None:
        if ctx.layer < self.dense_layers:
            return None
        low, high, columns = self.pages(ctx, k)
        scores = page_scores(q, low, high)  # [B, H, P]
        if self.share == "group":
            scores = scores.unflatten(1, (k.shape[1], -1)).sum(2)
        scores = scores.masked_fill(~self.readable(ctx, columns, k.shape[2]), float("-inf"))
        least, most = ctx.store["pad"]
        n_read = min(self.pages_read(k.shape[2] - least), scores.shape[-1])
        chosen = scores.topk(n_read, dim=-1).indices  # the best first
        tokens = columns[:, None].expand(-1, scores.shape[1], -1, -1)  # [B, heads, P, page]
        tokens = tokens.gather(2, chosen[..., None].expand(*chosen.shape, self.page))
        if self.pages_read(k.shape[2] - most) < n_read:  # shorter samples of the batch read fewer
            allowed = [self.pages_read(k.shape[2] - pad) for pad in ctx.n_pad.tolist()]
            beyond = chosen.new_tensor(range(n_read)) >= chosen.new_tensor(allowed)[:, None]  # [B, n_read]
            tokens = tokens.masked_fill(beyond[:, None, :, None], -1)
        return tokens.flatten(2)

    def pages(self, ctx: Call, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Minimum and maximum `[B, H_kv, P, D]` of every page, and its columns `[B, P, page]` (>= n_k: not there yet).

        Only pages that new keys fell into are computed; the rest is remembered beside the cache.
        """
        import torch

        n_k = k.shape[2]
        if "pad" not in ctx.store:
            ctx.store["pad"] = (int(ctx.n_pad.min()), int(ctx.n_pad.max()))
        least, most = ctx.store["pad"]
        n_pages = -(-(n_k - least) // self.page)
        columns = torch.arange(n_pages * self.page, device=k.device) + ctx.n_pad[:, None]
        done = max(0, (ctx.state.get("keys", 0) - most) // self.page)  # pages that are complete in every sample
        fresh = columns[:, done * self.page :]
        there = (fresh < n_k)[:, None, :, None]
        index = fresh.clamp(max=n_k - 1)[:, None, :, None].expand(-1, k.shape[1], -1, k.shape[3])
        keys, infinity = k.gather(2, index), float("inf")
        low = keys.masked_fill(~there, infinity).unflatten(2, (-1, self.page)).amin(3)
        high = keys.masked_fill(~there, -infinity).unflatten(2, (-1, self.page)).amax(3)
        if done:
            low = torch.cat((ctx.state["low", self.page][:, :, :done], low), dim=2)
            high = torch.cat((ctx.state["high", self.page][:, :, :done], high), dim=2)
        ctx.state["low", self.page], ctx.state["high", self.page], ctx.state["keys"] = low, high, n_k
        return low, high, columns.unflatten(1, (-1, self.page))

    def readable(self, ctx: Call, columns: Tensor, n_k: int) -> Tensor:
        """bool `[B, 1, P]`: pages with at least one key that the model shows to this query."""
        assert ctx.visible is not None
        shown = ctx.visible(slice(None))[:, 0, 0]  # [B, n_k]
        flat = columns.flatten(1)
        there = shown.gather(1, flat.clamp(max=n_k - 1)) & (flat < n_k)
        return there.unflatten(1, (-1, self.page)).any(-1)[:, None]


def page_scores(q: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Upper bounds `[B, H, P]` of q . k: q `[B, H, 1, D]`, page minima and maxima `[B, H_kv, P, D]`. Empty pages score
    nothing.
    """
    heads = q[:, :, 0].unflatten(1, (low.shape[1], -1))  # [B, H_kv, G, D]
    low, high = (x.masked_fill(x.isinf(), 0).transpose(-1, -2) for x in (low, high))
    return (heads.clamp(min=0) @ high + heads.clamp(max=0) @ low).flatten(1, 2)
