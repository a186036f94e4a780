"""One attached method at work: it turns each layer call into hooks, an output and counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from harness.attention.cache import TrackedLayer
from harness.attention.gather import gather_selected, grouped
from harness.attention.lower import choose, lower
from harness.attention.meta import Meta
from harness.attention.usage import Usage
from harness.contracts.method import Call, Method
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.models.view import View


@dataclass
class Forward:
    """One pass through the layers."""

    cache: Cache | None = None
    store: dict[Any, Any] = field(default_factory=dict)  # the method's, shared by all layers
    plans: dict[Any, Any] = field(default_factory=dict)  # lowered patterns
    scratch: dict[int, dict[Any, Any]] = field(default_factory=dict)  # per layer, where no cache can hold the state
    meta: Meta | None = None

    def layer(self, i: int) -> TrackedLayer | None:
        """The tracked cache layer, if there is one."""
        found = self.cache.layers[i] if self.cache is not None and i < len(self.cache.layers) else None
        return found if isinstance(found, TrackedLayer) else None


class Runtime:
    """The method, the model's own attention and mask functions, and the counts."""

    def __init__(self, view: View, method: Method, lowering: str, inner: Callable[..., Any], inner_mask: Any) -> None:
        self.view, self.method, self.lowering = view, method, lowering
        self.inner, self.inner_mask = inner, inner_mask
        self.usage = Usage()
        self.forward = Forward()
        self.tracked = method.overrides("select", "edit_cache")

    # ----------------------------------------------------------------------------------------- called by the model

    def begin(self, cache: Cache | None) -> None:
        """The first layer of a forward is about to run."""
        self.forward = Forward(cache)

    def mask(self, **kwargs: Any) -> Meta:
        """The mask function: remember, do not build."""
        offset, ahead = kwargs.get("q_offset", 0), kwargs["kv_length"] + kwargs.get("kv_offset", 0)
        if torch.is_tensor(offset) or ahead > offset + kwargs["q_length"]:
            raise UserError("A static cache was passed to a model with an attention method; use a dynamic one.")
        return Meta(kwargs, self.inner_mask)

    def attention(
        self, module: Any, q: Tensor, k: Tensor, v: Tensor, meta: Any, scaling: float | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """The attention function: q `[B, H, n_q, D]`, k and v `[B, H_kv, n_k, D]` -> `[B, n_q, H, D]` and weights."""
        if not isinstance(meta, Meta):
            raise UserError(
                "Attention methods need a 2-D attention mask (or none); a prepared 4-D mask hides the padding."
            )
        scaling = q.shape[-1] ** -0.5 if scaling is None else scaling
        layer = module.layer_idx
        self.forward.meta = meta
        ctx = self.call(layer, meta, k, scaling)
        result = self._sparse(ctx, meta, q, k, v, kwargs.get("s_aux"))
        if result is None:
            read: Any = meta.pairs * q.shape[1]
            out, weights = self.inner(module, q, k, v, meta.stock, scaling=scaling, **kwargs)
        else:
            (out, read), weights = result, None
            out = out.transpose(1, 2).contiguous()
        evicted = self._edit(ctx, q)
        held = self.forward.layer(layer)
        self.usage.kept[layer] = k.shape[2] if held is None or held.keys is None else held.keys.shape[-2]
        self.usage.seen[layer] = meta.q_offset + meta.n_q
        rows = q.shape[0] * q.shape[1]
        touched = evicted or (result is not None and ctx.phase in self.method.phases)
        self.usage.count(ctx.phase, layer, read, meta.pairs * q.shape[1], rows, touched)
        return out, weights

    # ------------------------------------------------------------------------------------------------------ parts

    def call(self, layer: int, meta: Meta, k: Tensor | None = None, scaling: float = 1.0) -> Call:
        """The record handed to hooks."""
        tracked = self.forward.layer(layer)
        self._check_cache(layer, meta, tracked)
        state = self.forward.scratch.setdefault(layer, {}) if tracked is None else tracked.state
        phase: Literal["prefill", "decode"] = "decode" if meta.n_q == 1 and meta.q_offset > 0 else "prefill"
        ctx = Call(self.view, layer, phase, meta.q_offset, meta.n_pad, scaling, store=self.forward.store, state=state)
        if k is not None and self.tracked:
            first = torch.arange(meta.kv_offset, meta.kv_offset + k.shape[2], device=k.device)[None, None]
            known = None if tracked is None else tracked.positions
            positions = ctx.positions = first if known is None else known
            rows = torch.arange(meta.q_offset, meta.q_offset + meta.n_q, device=k.device)
            ctx.visible = lambda part: meta.visible(rows[part], positions)
        return ctx

    def _check_cache(self, layer: int, meta: Meta, tracked: TrackedLayer | None) -> None:
        if not self.tracked or self.forward.cache is None:
            return
        if tracked is None:
            raise UserError(
                f"Method '{self.method.name}' needs a cache that keeps every key of every layer: "
                "pass past_key_values=attached.new_cache()."
            )
        if self.method.overrides("edit_cache") and meta.n_q > 1 and meta.q_offset > 0:
            raise UserError(
                f"Method '{self.method.name}' edits the cache after the prompt, so the prompt must come in one piece: "
                f"a forward of {meta.n_q} tokens met a cache of {meta.q_offset} (chunked prefill, or a further turn)."
            )
        if self.method.batching == "equal" and meta.padding is not None:
            raise UserError(f"Method '{self.method.name}' takes prompts of equal length in a batch: padding was found.")

    def _sparse(self, ctx: Call, meta: Meta, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None) -> Any:
        """(output `[B, H, n_q, D]`, pairs read), or None where the model's own attention must run."""
        method, tracked = self.method, self.forward.layer(ctx.layer)
        if ctx.phase in method.phases and ctx.phase == "decode" and method.overrides("select"):
            index = method.select(ctx, q, k)
            if index is not None:
                return gather_selected(index, cast(Any, ctx.visible)(slice(None)), q, k, v, ctx.scaling, sinks)
        if ctx.phase in method.phases and method.overrides("pattern"):
            blocks = method.pattern(ctx, q, k)
            if blocks is not None:
                how = choose(self.lowering, blocks, meta, sinks)
                self.usage.simulated |= how == "dense"
                return lower(how, blocks, meta, self.forward.plans, q, k, v, ctx.scaling, sinks)
        if tracked is not None and tracked.positions is not None:
            shown = cast(Any, ctx.visible)(slice(None))
            read = shown.expand(-1, k.shape[1], -1, -1).sum() * (q.shape[1] // k.shape[1])
            return grouped(q, k, v, shown, ctx.scaling, sinks), read
        return None

    def _edit(self, ctx: Call, q: Tensor) -> bool:
        """Let the method edit the layer's cache; True if keys were dropped."""
        tracked = self.forward.layer(ctx.layer)
        if tracked is None or not self.method.overrides("edit_cache"):
            return False
        ctx.q = q
        index = self.method.edit_cache(ctx, tracked)
        if index is not None:
            tracked.keep(index)
        return index is not None
