"""One attached method at work: it turns each layer call into hooks, an output and counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from harness.attention.cache import TrackedLayer
from harness.attention.edited_rows import edit_rows
from harness.attention.lowering.gather import gather_selected, grouped
from harness.attention.lowering.lower import choose, lower
from harness.attention.mask import Meta
from harness.attention.request import LiveRequest
from harness.attention.tally import Held
from harness.attention.usage import Usage
from harness.contracts.call import Call
from harness.contracts.method import Method
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
    tokens: Tensor | None = None  # int64 [B, n_q]
    image: Any = False  # bool [B, n_k] or None; False: not asked yet

    def layer(self, i: int, make: bool = False) -> TrackedLayer | None:
        """The tracked cache layer, if there is one (`make`: a cache that replicates its layers gets it now)."""
        while make and self.cache is not None and len(self.cache.layers) <= i and self.cache.layer_class_to_replicate:
            self.cache.layers.append(self.cache.layer_class_to_replicate())
        found = self.cache.layers[i] if self.cache is not None and i < len(self.cache.layers) else None
        return found if isinstance(found, TrackedLayer) else None


class Idle:
    """In place of a runtime where no method is attached: there is nothing to silence."""

    method = Method()

    def __init__(self) -> None:
        self.usage = Usage()

    @contextmanager
    def silent(self) -> Iterator[None]:
        yield


class Runtime:
    """The method, the model's own attention and mask functions, and the counts."""

    inner: Callable[..., Any]  # the attention function that untouched calls go to
    inner_mask: Any

    def __init__(self, view: View, method: Method, lowering: str) -> None:
        self.view, self.method, self.lowering = view, method, lowering
        self.usage = Usage()
        self.forward = Forward()
        self.hooks = frozenset(hook.name for hook in method.hooks)
        self.tracked = method.tracks_keys
        self.row_layers = set(method.layers(view)) if self.hooks & {"scores", "probs"} else set()
        self.request: LiveRequest | None = None
        self.step = -1  # forwards of the request so far, less one
        self.is_silent = False  # the method's own forwards
        self.is_prefix = False  # a shared prefix: the last row of it is not the last row of a prompt
        self._tokens: Tensor | None = None
        self._meta: Meta | None = None

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
        self.forward, self._meta, self._tokens = Forward(), None, None
        self.usage.next_request()

    def enter(self, input_ids: Tensor | None) -> None:
        """A forward of the whole model is about to run on `input_ids` (None: on embeddings)."""
        self._tokens = input_ids

    def begin(self, cache: Cache | None, rows: int) -> None:
        """The first layer of a forward is about to run."""
        if self.step >= 0 and not self.is_prefix and (cache is None or cache.get_seq_length() == 0):
            self.request, self.step = None, -1  # a new prompt that nobody announced
            self.usage.next_request()
        tokens = self._tokens
        if tokens is None and self.request is not None:
            ids = self.request.inputs.ids
            tokens = ids.repeat_interleave(rows // len(ids), 0) if rows % len(ids) == 0 else None
        self.forward = Forward(cache, meta=self._meta, tokens=tokens)
        self.usage.tally.forward(rows, "logits" in self.hooks)
        self.step += 0 if self.is_prefix else 1

    def mask(self, **kwargs: Any) -> Any:
        """The mask function: remember, do not build."""
        if self.is_silent:
            return self.inner_mask(**kwargs)
        offset, ahead = kwargs.get("q_offset", 0), kwargs["kv_length"] + kwargs.get("kv_offset", 0)
        if torch.is_tensor(offset) or ahead > offset + kwargs["q_length"]:
            raise UserError("A static cache was passed to a model with an attention method; use a dynamic one.")
        self._meta = Meta(kwargs, self.inner_mask)
        return self._meta

    def attention(
        self, module: Any, q: Tensor, k: Tensor, v: Tensor, meta: Any, scaling: float | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """The attention function: q `[B, H, n_q, D]`, k and v `[B, H_kv, n_k, D]` -> `[B, n_q, H, D]` and weights."""
        if self.is_silent:
            return self.inner(module, q, k, v, meta, scaling=scaling, **kwargs)
        if not isinstance(meta, Meta):
            raise UserError(
                "Attention methods need a 2-D attention mask (or none); a prepared 4-D mask hides the padding."
            )
        scaling = q.shape[-1] ** -0.5 if scaling is None else scaling
        layer = module.layer_idx
        self.forward.meta = meta
        ctx = self.call(layer, meta, k, scaling)
        result = self._sparse(ctx, meta, q, k, v, kwargs.get("s_aux"))
        read: Any = None
        # the one row of a decode step is computed here or there, not twice
        edited = self._edit_rows(ctx, meta, None, q, k, v, kwargs) if result is None and meta.n_q == 1 else None
        if result is not None:
            (out, read), weights = result, None
            out = out.transpose(1, 2).contiguous()
        elif edited is not None:
            out, weights = edited, None
        else:
            out, weights = self.inner(module, q, k, v, meta.stock, scaling=scaling, **kwargs)
            edited = self._edit_rows(ctx, meta, out, q, k, v, kwargs) if meta.n_q > 1 else None
            out = out if edited is None else edited
        evicted = self._edit(ctx, q)
        touched = evicted or edited is not None or (result is not None and ctx.phase in self.method.phases)
        self._count(ctx, meta, q, k, v, read, touched)
        return out, weights

    def watch(
        self, layer: int, meta: Meta, q: Tensor, k: Tensor, v: Tensor, scaling: float, once: Callable[..., Any]
    ) -> None:
        """A layer call of a dense prefill that was computed for several methods: fill this method's own cache, and let
        it edit that. The counts are those of a prefill of its own. `once`: see `Call.once`.
        """
        self.forward.meta = meta
        tracked = self.forward.layer(layer, make=True)
        if tracked is not None:
            tracked.adopt(k, v, copy="edit_cache" in self.hooks)
        ctx = self.call(layer, meta, k, scaling)
        ctx.once = once
        self._count(ctx, meta, q, k, v, None, self._edit(ctx, q))

    def _count(self, ctx: Call, meta: Meta, q: Tensor, k: Tensor, v: Tensor, read: Any, touched: bool) -> None:
        layers = self.forward.cache.layers if self.forward.cache is not None else ()
        layer = layers[ctx.layer] if ctx.layer < len(layers) else None
        keys, state = getattr(layer, "keys", None), getattr(layer, "state", None)
        held = Held(k.shape[2] if keys is None else keys.shape[-2], tuple(state) if state else ())
        tally = self.usage.tally
        tally.call(ctx.layer, meta, q, k, v, read, held)
        if touched:
            tally.steps[-1].touched.add(ctx.layer)

    # ------------------------------------------------------------------------------------------------------ parts

    def call(self, layer: int, meta: Meta, k: Tensor | None = None, scaling: float = 1.0) -> Call:
        """The record handed to hooks."""
        tracked = self.forward.layer(layer)
        self._check_cache(layer, meta, tracked)
        state = self.forward.scratch.setdefault(layer, {}) if tracked is None else tracked.state
        phase: Literal["prefill", "decode"] = "decode" if meta.n_q == 1 and meta.q_offset > 0 else "prefill"
        ctx = Call(
            self.view, layer, phase, meta.q_offset, meta.n_pad, scaling, request=self.request, step=max(self.step, 0),
            tokens=self.forward.tokens, image=self._image(meta), count=self.usage.tell, store=self.forward.store,
            state=state,
        )  # fmt: skip
        if k is not None and self.tracked:
            first = torch.arange(meta.kv_offset, meta.kv_offset + k.shape[2], device=k.device)[None, None]
            known = None if tracked is None else tracked.positions
            positions = ctx.positions = first if known is None else known
            rows = torch.arange(meta.q_offset, meta.q_offset + meta.n_q, device=k.device)
            ctx.visible = lambda part: meta.visible(rows[part], positions)
        return ctx

    def _image(self, meta: Meta) -> Tensor | None:
        """bool `[B, n_k]`: which keys are image tokens; None without pictures."""
        if self.request is None or self.request.inputs.image is None:
            return None
        if self.forward.image is False:
            image = self.request.inputs.image[:, : meta.q_offset + meta.n_q]
            image = torch.nn.functional.pad(image, (0, meta.q_offset + meta.n_q - image.shape[1]))
            self.forward.image = image.repeat_interleave(meta.kwargs["batch_size"] // len(image), 0)
        return self.forward.image

    def _edit_rows(
        self, ctx: Call, meta: Meta, out: Tensor | None, q: Tensor, k: Tensor, v: Tensor, kwargs: dict[str, Any]
    ) -> Tensor | None:
        """The output `[B, n_q, H, D]` with the edited query rows in place; None if the method left them alone."""
        if ctx.layer not in self.row_layers or self.is_prefix or ctx.phase not in self.method.phases:
            return None
        rows, edited = self._rows(ctx, meta)
        if rows.start >= rows.stop:
            return None
        at = torch.arange(meta.q_offset + rows.start, meta.q_offset + rows.stop, device=q.device)
        keys = torch.arange(meta.kv_offset, meta.kv_offset + k.shape[2], device=q.device)[None, None]
        # what is counted leaves out padding behind a text, which is edited along with it
        own = edited & meta.real(len(edited))[:, rows] if edited.shape[1] > 1 else edited
        hooks, heads = self.hooks, None if out is None else out.transpose(1, 2)
        new = edit_rows(
            heads, q, k, v, rows, meta.visible(at, keys), edited, ctx.scaling,
            scores=self._counted(ctx, self.method.scores, own) if "scores" in hooks else None,
            probs=self._counted(ctx, self.method.probs, own) if "probs" in hooks else None,
            sinks=kwargs.get("s_aux"), softcap=self.view.softcap,
        )  # fmt: skip
        return None if new is None or new is heads else new.transpose(1, 2).contiguous()

    def _counted(self, ctx: Call, hook: Any, rows: Tensor) -> Callable[[Tensor], Tensor | None]:
        """A hook on scores or weights, told which rows are a sample's own, and counted where it changes them. Rows come
        in pieces, in order.
        """
        done, some = 0, rows.shape[1] > 1

        def ask(x: Tensor) -> Tensor | None:
            nonlocal done
            own = rows[:, done : done + x.shape[2]]
            done += x.shape[2]
            if some:
                ctx.count = partial(self._tell_own, own)
            new = hook(ctx, x)
            if new is not None:
                self.usage.tally.edit(ctx.layer, new, x, own)
            return new

        return ask

    def _tell_own(self, own: Tensor, name: str, value: Any) -> None:
        """A number `[B, H, R, ..]` of these rows, those of other samples (and of padding) left out."""
        if torch.is_tensor(value) and value.dim() > 2:
            there = own[:, None].reshape(own.shape[0], 1, own.shape[1], *[1] * (value.dim() - 3))
            value = value.float().masked_fill(~there, torch.nan)
        self.usage.tell(name, value)

    def _rows(self, ctx: Call, meta: Meta) -> tuple[slice, Tensor]:
        """The query rows that may be edited, and bool `[B, R]`: in which samples they are."""
        n, batch = meta.n_q, meta.kwargs["batch_size"]
        first = None if self.request is None else self.request.inputs.scored  # [B]
        if self.method.query_rows == "after_image" and ctx.image is not None:
            columns = torch.arange(ctx.image.shape[1], device=meta.device)
            first = torch.where(ctx.image, columns + 1, 0).amax(1)  # one past the last image token
        if ctx.phase == "decode" or first is None:
            return slice(n - 1, n), torch.ones(batch, 1, dtype=torch.bool, device=meta.device)
        start = max(int(first.min()) - meta.q_offset, 0)
        at = torch.arange(meta.q_offset + start, meta.q_offset + n, device=meta.device)
        return slice(start, n), at >= torch.maximum(first, ctx.n_pad)[:, None]

    def _check_cache(self, layer: int, meta: Meta, tracked: TrackedLayer | None) -> None:
        if not self.tracked or self.forward.cache is None:
            return
        if tracked is None:
            raise UserError(
                f"Method '{self.method.name}' needs a cache that keeps every key of every layer: "
                "pass past_key_values=attached.new_cache()."
            )
        if "edit_cache" in self.hooks and meta.n_q > 1 and meta.q_offset > 0:
            raise UserError(
                f"Method '{self.method.name}' edits the cache after the prompt, so the prompt must come in one piece: "
                f"a forward of {meta.n_q} tokens met a cache of {meta.q_offset} (chunked prefill, or a further turn)."
            )
        if self.method.batching == "equal" and meta.padding is not None:
            raise UserError(f"Method '{self.method.name}' takes prompts of equal length in a batch: padding was found.")

    def _sparse(self, ctx: Call, meta: Meta, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None) -> Any:
        """(output `[B, H, n_q, D]`, pairs read), or None where the model's own attention must run."""
        method, acts = self.method, ctx.phase in self.method.phases
        if acts and ctx.phase == "decode" and "select" in self.hooks:
            index = method.select(ctx, q, k)
            if index is not None:
                return gather_selected(index, cast(Any, ctx.visible)(slice(None)), q, k, v, ctx.scaling, sinks)
        if acts and "mask" in self.hooks:
            rows = torch.arange(meta.q_offset, meta.q_offset + meta.n_q, device=q.device)
            keys = torch.arange(meta.kv_offset, meta.kv_offset + k.shape[2], device=q.device)[None, None]
            stock = meta.visible(rows, keys)[:, :1]
            shown = method.mask(ctx, stock)
            if shown is not None:
                real = meta.real(stock.shape[0])
                self.usage.tally.edit(ctx.layer, shown, stock, real)
                self.usage.tally.simulated |= shown is not stock
                out = grouped(q, k, v, shown.expand(-1, k.shape[1], -1, -1), ctx.scaling, sinks)
                return out, _pairs(shown, real) * q.shape[1]
        if acts and "pattern" in self.hooks:
            blocks = method.pattern(ctx, q, k)
            if blocks is not None:
                how = choose(self.lowering, blocks, meta, sinks)
                self.usage.tally.simulated |= how == "dense"
                return lower(how, blocks, meta, self.forward.plans, q, k, v, ctx.scaling, sinks)
        tracked = self.forward.layer(ctx.layer) if self.tracked else None
        if tracked is not None and tracked.positions is not None:
            shown = cast(Any, ctx.visible)(slice(None)).expand(-1, k.shape[1], -1, -1)
            read = _pairs(shown, meta.real(q.shape[0])) * (q.shape[1] // k.shape[1])
            return grouped(q, k, v, shown, ctx.scaling, sinks), read
        return None

    def _edit(self, ctx: Call, q: Tensor) -> bool:
        """Let the method edit the layer's cache; True if keys were dropped."""
        tracked = self.forward.layer(ctx.layer) if "edit_cache" in self.hooks else None
        if tracked is None:
            return False
        ctx.q = q
        index = self.method.edit_cache(ctx, tracked)
        if index is not None:
            tracked.keep(index)
        return index is not None


def _pairs(shown: Tensor, real: Tensor) -> Tensor:
    """int64 `[B]`: True in shown `[B, h, n_q, n_k]`, rows of padding left out (real `[B, n_q]`)."""
    return (shown & real[:, None, :, None]).sum((1, 2, 3))
