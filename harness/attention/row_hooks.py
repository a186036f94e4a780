"""Which query rows a method may edit, and its hooks on their scores, weights and outputs (`scores`, `probs`, `edit_output`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.attention.edited_rows import edit_rows
from harness.attention.log_sum_exp import log_sum_exp
from harness.attention.mask import AskedMask
from harness.attention.usage import Usage
from harness.contracts.call import Call
from harness.contracts.method import Method
from harness.contracts.probe import Probe
from harness.errors import Unsupported


def check(method: Method) -> None:
    """`Unsupported` for a method that edits outputs by a log-sum-exp that its own edits of scores or weights have made untrue. A
    probe may look at all of them, since it edits none.
    """
    also = sorted({"scores", "probs"} & {hook.name for hook in method.hooks})
    if also and not isinstance(method, Probe) and any(hook.name == "edit_output" for hook in method.hooks):
        raise Unsupported(
            f"Method '{method.name}' overrides edit_output and {' and '.join(also)}: the log-sum-exp that edit_output is given is that of "
            "the model's own scores, which the others edit. Make all edits in edit_output, or all in scores and probs."
        )


class Rows(NamedTuple):
    """Query rows that may be edited."""

    rows: slice
    edited: Tensor  # bool [B, R]: in which samples they are
    own: Tensor  # the same without padding behind a text, which is edited along with it and not counted


class RowHooks:
    """The part of a method that edits scores, weights or outputs of single rows. `layers`: those in which it does."""

    def __init__(self, method: Method, hooks: frozenset[str], layers: list[int], softcap: float | None) -> None:
        self.method, self.softcap = method, softcap
        self.scores = method.scores if "scores" in hooks else None
        self.probs = method.probs if "probs" in hooks else None
        self.closes = "edit_output" in hooks
        self.layers = frozenset(layers if self.scores or self.probs or self.closes else ())
        self.every = method.query_rows == "all"

    def edit(
        self, out: Tensor | None, ctx: Call, meta: AskedMask, rows: Rows, q: Tensor, k: Tensor, v: Tensor,
        sinks: Tensor | None, usage: Usage,
    ) -> Tensor | None:  # fmt: skip
        """The output `[B, n_q, H, D]` with scores and weights of the rows edited; None if the method left them alone. `out`: the
        model's own, None in a decode step, whose one row is computed here or there, not twice.
        """
        if self.scores is None and self.probs is None:
            return None
        heads = None if out is None else out.transpose(1, 2)
        shown = meta.visible(meta.columns(rows.rows), meta.keys(k.shape[2]))
        new = edit_rows(
            heads, q, k, v, rows.rows, shown, rows.edited, ctx.scaling,
            scores=None if self.scores is None else _counted(ctx, self.scores, rows.own, usage),
            probs=None if self.probs is None else _counted(ctx, self.probs, rows.own, usage),
            sinks=sinks, softcap=self.softcap,
        )  # fmt: skip
        ctx.count = usage.tell
        return None if new is None or new is heads else new.transpose(1, 2).contiguous()

    def edit_output(
        self, out: Tensor, weights: Tensor | None, ctx: Call, meta: AskedMask, rows: Rows, q: Tensor, k: Tensor, v: Tensor,
        sinks: Tensor | None, usage: Usage,
    ) -> Tensor | None:  # fmt: skip
        """The output `[B, n_q, H, D]` after the closed form; None if the method left it alone. `weights`: what the backend gave
        beside the output, which is the log-sum-exp where it is FlexAttention on a GPU.
        """
        if not self.closes:
            return None
        at, keys, before = meta.columns(rows.rows), meta.keys(k.shape[2]), out.transpose(1, 2)[:, :, rows.rows]
        mine = q[:, :, rows.rows]

        def visible(part: slice, columns: Tensor | None = None) -> Tensor:
            return meta.visible(at[part], keys if columns is None else columns)

        def lse() -> Tensor:
            # in half precision the backend rounds it, and a weight would be wrong by as much as the rounding
            if weights is not None and weights.dim() == 3 and sinks is None and weights.dtype.itemsize >= 4:
                return weights[:, :, rows.rows]
            return log_sum_exp(mine, k, visible, ctx.scaling, sinks, self.softcap)

        kept, ctx.visible = ctx.visible, visible
        new = self.method.edit_output(ctx, before, mine, k, v, lse)
        ctx.visible = kept
        if new is None:
            return None
        usage.tally.edit(ctx.layer, new, before, rows.own)
        result = out.clone()
        result[:, rows.rows] = torch.where(rows.edited[:, None, :, None], new.to(out.dtype), before).transpose(1, 2)
        return result

    def of(self, ctx: Call, meta: AskedMask) -> Rows | None:
        """The query rows of this call that may be edited; None: none."""
        if ctx.layer not in self.layers or ctx.phase not in self.method.phases:
            return None
        rows, edited = self._rows(ctx, meta)
        if rows.start >= rows.stop:
            return None
        return Rows(rows, edited, edited & meta.real(len(edited))[:, rows] if edited.shape[1] > 1 else edited)

    def _rows(self, ctx: Call, meta: AskedMask) -> tuple[slice, Tensor]:
        n, batch = meta.n_q, meta.batch
        if self.every:
            return slice(0, n), meta.real(batch)
        first = None if ctx.request is None else ctx.request.inputs.scored  # [B]
        if self.method.query_rows == "after_image" and ctx.image is not None:
            columns = torch.arange(ctx.image.shape[1], device=meta.device)
            first = torch.where(ctx.image, columns + 1, 0).amax(1)  # one past the last image token
        if ctx.phase == "decode" or first is None:
            return slice(n - 1, n), torch.ones(batch, 1, dtype=torch.bool, device=meta.device)
        rows = slice(max(int(first.min()) - meta.q_offset, 0), n)
        return rows, meta.columns(rows) >= torch.maximum(first, ctx.n_pad)[:, None]


def _counted(ctx: Call, hook: Any, rows: Tensor, usage: Usage) -> Callable[[Tensor], Tensor | None]:
    """A hook on scores or weights, told which rows are a sample's own, and counted where it changes them. Rows come in
    pieces, in order.
    """
    done, some = 0, rows.shape[1] > 1

    def ask(x: Tensor) -> Tensor | None:
        nonlocal done
        own = rows[:, done : done + x.shape[2]]
        done += x.shape[2]
        if some:
            ctx.count = partial(_tell_own, usage, own)
        new = hook(ctx, x)
        if new is not None:
            usage.tally.edit(ctx.layer, new, x, own)
        return new

    return ask


def _tell_own(usage: Usage, own: Tensor, name: str, value: Any) -> None:
    """A number `[B, H, R, ..]` of these rows, those of other samples (and of padding) left out."""
    if torch.is_tensor(value) and value.dim() > 2:
        there = own[:, None].reshape(own.shape[0], 1, own.shape[1], *[1] * (value.dim() - 3))
        value = value.float().masked_fill(~there, torch.nan)
    usage.tell(name, value)
