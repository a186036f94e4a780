"""One attached method at work: it turns each layer call into hooks, an output and counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from harness.attention.cache import TrackedLayer
from harness.attention.doors import dispatch
from harness.attention.forward import Forward
from harness.attention.mask import AskedMask
from harness.attention.reading import Reading
from harness.attention.request import LiveRequest
from harness.attention.row_hooks import RowHooks
from harness.attention.tally import Held
from harness.attention.usage import Usage
from harness.contracts.call import Call
from harness.contracts.method import Method
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.models.view import View


class Runtime:
    """The method, the model's own attention and mask functions, and the counts."""

    inner: Callable[..., Any]  # the attention function that untouched calls go to
    inner_mask: Any

    def __init__(self, view: View, method: Method, lowering: str) -> None:
        self.view, self.config, self.method, self.lowering = view, view.config, method, lowering
        self.usage = Usage()
        self.forward = Forward()
        self.hooks = frozenset(hook.name for hook in method.hooks)
        self.tracked = method.tracks_keys
        self.reading = Reading(method, lowering)
        self.rows = RowHooks(method, self.hooks, method.layers(view), view.softcap)
        self.attends = any(hook.at == "attention" for hook in method.hooks)
        self.ends = any(hook.at == "head" for hook in method.hooks)
        self.edits_cache = "edit_cache" in self.hooks
        self.record = _record(view)
        self.request: LiveRequest | None = None
        self.step = -1  # forwards of the request so far, less one
        self.is_silent = False  # the method's own forwards
        self.is_prefix = False  # a shared prefix: the last row of it is not the last row of a prompt

    def bind(self, inner: Callable[..., Any], inner_mask: Any) -> None:
        """What was in use before: it serves the calls that the method leaves alone."""
        self.inner, self.inner_mask = inner, inner_mask

    def around(self) -> AbstractContextManager[Any]:
        """What the method wants around the model while it is at work."""
        return self.method.around(self.view)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Inside, the model runs as if nothing were attached here."""
        kept = self.forward, self.is_silent
        self.is_silent = True
        try:
            yield
        finally:
            self.forward, self.is_silent = kept

    @contextmanager
    def prefix(self) -> Iterator[None]:
        """Inside, only what shapes every row acts: a prefix that several prompts share is computed."""
        self.is_prefix = True
        self.forget()
        try:
            yield
        finally:
            self.is_prefix = False

    # ----------------------------------------------------------------------------------------- called by the model

    def announce(self, request: LiveRequest) -> None:
        """A batch is about to be generated."""
        self.forget()
        self.request = request

    def forget(self) -> None:
        """Let go of the last batch now: streams and their request hold each other, and with them whole caches, until the
        collector happens to run, which knows nothing of a device's memory.
        """
        if self.request is not None:
            self.request.streams.clear()
            self.request.state.clear()
        self.request, self.step = None, -1
        self.forward, self.record = Forward(), _record(self.view)
        self.usage.next_request()

    def begin(self, cache: Cache | None, tokens: Tensor | None = None) -> None:
        """A forward on `cache` is about to run. `tokens` int64 `[B, n_q]`; None: on embeddings. What more there is to be done
        waits for its mask, which tells where it stands.
        """
        self.forward = Forward(cache, tokens=tokens)

    def mask(self, **kwargs: Any) -> Any:
        """The mask function: remember, do not build."""
        if self.is_silent:
            return self.inner_mask(**kwargs)
        offset, ahead = kwargs.get("q_offset", 0), kwargs["kv_length"] + kwargs.get("kv_offset", 0)
        if torch.is_tensor(offset) or ahead > offset + kwargs["q_length"]:
            raise UserError("A static cache was passed to a model with an attention method; use a dynamic one.")
        meta = AskedMask(kwargs, self.inner_mask)
        self._over(meta)
        return meta

    def _over(self, meta: AskedMask) -> None:
        """The forward that began goes over these positions. Layers of another kind bring a mask of their own."""
        if self.forward.step is not None and self.forward.step.layers:
            self.begin(None)  # part of a model that was called by itself: nobody said that another forward began
        forward = self.forward
        forward.meta = meta
        if forward.step is not None:
            return
        if meta.q_offset == 0 and self.step >= 0 and not self.is_prefix:
            self.request, self.step = None, -1  # a new prompt that nobody announced
            self.usage.next_request()
        if forward.tokens is None and self.request is not None:
            ids = self.request.inputs.ids
            forward.tokens = ids.repeat_interleave(meta.batch // len(ids), 0) if meta.batch % len(ids) == 0 else None
        mask = meta.kwargs.get("attention_mask")
        forward.step = self.usage.tally.forward(meta.batch, meta.q_offset, meta.n_q, mask, self.ends)
        self.step += 0 if self.is_prefix else 1

    def attention(
        self, module: Any, q: Tensor, k: Tensor, v: Tensor, meta: Any, scaling: float | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """The attention function: q `[B, H, n_q, D]`, k and v `[B, H_kv, n_k, D]` -> `[B, n_q, H, D]` and weights."""
        if self.is_silent:
            return self.inner(module, q, k, v, meta, scaling=scaling, **kwargs)
        if module.config is not self.config:
            raise dispatch.unattached()
        if type(meta) is not AskedMask:
            raise UserError(
                "Attention methods need a 2-D attention mask (or none); a prepared 4-D mask hides the padding."
            )
        layer, read, touched = module.layer_idx, None, False
        if not self.attends:  # its hooks stand elsewhere
            out, weights = self.inner(module, q, k, v, meta.stock, scaling=scaling, **kwargs)
        else:
            ctx = self.call(layer, meta, k, q.shape[-1] ** -0.5 if scaling is None else scaling)
            sinks = kwargs.get("s_aux")
            result = self.reading.read(ctx, meta, self.forward, self.usage.tally, q, k, v, sinks)
            if result is None and not self.rows.layers:
                out, weights = self.inner(module, q, k, v, meta.stock, scaling=scaling, **kwargs)
            elif result is None:
                out, weights, touched = self._own(ctx, module, q, k, v, meta, scaling, kwargs)
            else:
                out, read, weights = result[0].transpose(1, 2).contiguous(), result[1], None
                touched = ctx.phase in self.method.phases
            touched |= self.edits_cache and self._edit_cache(ctx, q)
        tally = self.usage.tally
        if read is None and not touched and meta.plain and not self.tracked and layer in tally.layers:
            tally.steps[-1].layers.append(layer)  # a call that was left alone: there is nothing else to say of it
        else:
            self._count(layer, meta, q, k, v, read, touched)
        return out, weights

    def _own(
        self, ctx: Call, module: Any, q: Tensor, k: Tensor, v: Tensor, meta: AskedMask, scaling: float | None,
        kwargs: dict[str, Any],
    ) -> tuple[Tensor, Tensor | None, bool]:  # fmt: skip
        """The model's own attention, in which a method may edit rows; whether it did."""
        hooked = self.rows.every or not self.is_prefix
        rows = self.rows.of(ctx, meta) if hooked else None
        if rows is None:
            return *self.inner(module, q, k, v, meta.stock, scaling=scaling, **kwargs), False
        given = (ctx, meta, rows, q, k, v, kwargs.get("s_aux"), self.usage)
        # the one row of a decode step is computed here or there, not twice
        edited = self.rows.edit(None, *given) if meta.n_q == 1 else None
        out, weights = edited, None
        if out is None:
            out, weights = self.inner(module, q, k, v, meta.stock, scaling=scaling, **kwargs)
            edited = self.rows.edit(out, *given) if meta.n_q > 1 else None
            out = out if edited is None else edited
        new = self.rows.edit_output(out, weights, *given)
        return (out, None if edited is not None else weights, edited is not None) if new is None else (new, None, True)

    def watch(
        self, layer: int, meta: AskedMask, q: Tensor, k: Tensor, v: Tensor, scaling: float, once: Callable[..., Any]
    ) -> None:
        """A layer call of a dense prefill that was computed for several methods: fill this method's own cache, and let
        it edit that. The counts are those of a prefill of its own. `once`: see `Call.once`.
        """
        if self.forward.step is None:
            self._over(meta)
        tracked = self.forward.layer(layer, make=True)
        if tracked is not None:
            tracked.adopt(k, v, copy=self.edits_cache)
        ctx = self.call(layer, meta, k, scaling)
        ctx.once = once
        self._count(layer, meta, q, k, v, None, self.edits_cache and self._edit_cache(ctx, q))

    def _count(self, layer: int, meta: AskedMask, q: Tensor, k: Tensor, v: Tensor, read: Any, touched: bool) -> None:
        forward, tally = self.forward, self.usage.tally
        step = tally.steps[-1]
        if layer not in tally.layers:
            tally.layers[layer] = forward.describe(layer, meta, q, k, v)
        if not meta.plain:
            step.shown.append((len(step.layers), meta.pairs))
        if read is not None:
            step.reads.append((len(step.layers), read))
        if touched:
            step.touched.add(layer)
        if self.tracked and (tracked := forward.layer(layer)) is not None:
            step.held[layer] = Held(tracked.size, tuple(tracked.state))
        step.layers.append(layer)

    # ------------------------------------------------------------------------------------------------------ parts

    def call(self, layer: int, meta: AskedMask, k: Tensor | None = None, scaling: float = 1.0) -> Call:
        """The record handed to hooks."""
        ctx = self.forward.record or self._renewed(meta)
        ctx.layer, ctx.scaling = layer, scaling
        if self.tracked:
            self._track(ctx, meta, k)
        else:
            ctx.state = self.forward.scratch[layer]
        return ctx

    def _track(self, ctx: Call, meta: AskedMask, k: Tensor | None) -> None:
        """State that lives with the cache and, in the attention function, true positions of the keys."""
        tracked = self.forward.layer(ctx.layer)
        self._check_cache(meta, tracked)
        ctx.state = self.forward.scratch[ctx.layer] if tracked is None else tracked.state
        ctx.positions = ctx.visible = ctx.q = None
        if k is not None:
            known = None if tracked is None else tracked.positions
            positions = ctx.positions = meta.keys(k.shape[2]) if known is None else known
            ctx.visible = lambda part: meta.visible(meta.columns(part), positions)

    def _renewed(self, meta: AskedMask) -> Call:
        """The record as it stands for all layer calls of the forward that runs."""
        forward, ctx = self.forward, self.record
        forward.record = ctx
        ctx.phase, ctx.q_offset, ctx.n_pad = meta.phase, meta.q_offset, meta.n_pad
        ctx.request, ctx.step, ctx.tokens, ctx.image = (
            self.request,
            max(self.step, 0),
            forward.tokens,
            self._image(meta),
        )
        ctx.count, ctx.store = self.usage.tell, forward.store
        return ctx

    def _image(self, meta: AskedMask) -> Tensor | None:
        """bool `[B, n_k]`: which keys are image tokens; None without pictures."""
        if self.request is None or self.request.inputs.image is None:
            return None
        image = self.request.inputs.image[:, : meta.q_offset + meta.n_q]
        image = torch.nn.functional.pad(image, (0, meta.q_offset + meta.n_q - image.shape[1]))
        return image.repeat_interleave(meta.batch // len(image), 0)

    def _check_cache(self, meta: AskedMask, tracked: TrackedLayer | None) -> None:
        if self.forward.cache is None:
            return
        if tracked is None:
            raise UserError(
                f"Method '{self.method.name}' needs a cache that keeps every key of every layer: "
                "pass past_key_values=attached.new_cache()."
            )
        if self.edits_cache and meta.n_q > 1 and meta.q_offset > 0:
            raise UserError(
                f"Method '{self.method.name}' edits the cache after the prompt, so the prompt must come in one piece: "
                f"a forward of {meta.n_q} tokens met a cache of {meta.q_offset} (chunked prefill, or a further turn)."
            )
        if self.method.batching == "equal" and meta.padding is not None:
            raise UserError(f"Method '{self.method.name}' takes prompts of equal length in a batch: padding was found.")

    def _edit_cache(self, ctx: Call, q: Tensor) -> bool:
        """Let the method edit the layer's cache; True if keys were dropped."""
        tracked = self.forward.layer(ctx.layer)
        if tracked is None:
            return False
        ctx.q = q
        index = self.method.edit_cache(ctx, tracked)
        if index is not None:
            tracked.keep(index)
        return index is not None


def _record(view: View) -> Call:
    """A record before any layer call is written into it."""
    return Call(view, 0, "prefill", 0, torch.zeros(0, dtype=torch.long))
