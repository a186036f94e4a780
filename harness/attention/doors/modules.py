"""Hooks on modules: the start of a forward, head outputs, outputs of blocks and layers, logits. Only what a method
overrides is installed; while the method runs a forward of its own they all stand aside.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import Cache

from harness.attention.runtime import Runtime


class Wrapped:
    """A module whose `forward` tells `before` first. A hook of torch would do the same and take ten times as long, in every
    step; `remove` takes it back.
    """

    def __init__(self, module: Any, before: Callable[[tuple[Any, ...], dict[str, Any]], None]) -> None:
        self.module, self.own = module, vars(module).get("forward")
        inner = module.forward

        @wraps(inner)  # the library reads the signature
        def forward(*args: Any, **kwargs: Any) -> Any:
            before(args, kwargs)
            return inner(*args, **kwargs)

        module.forward = forward

    def remove(self) -> None:
        if self.own is None:
            del self.module.forward
        else:
            self.module.forward = self.own


def install(runtime: Runtime) -> list[RemovableHandle | Wrapped]:
    """Install the hooks of the attached method; the caller removes the handles."""
    view, method, hooks = runtime.view, runtime.method, runtime.hooks
    handles: list[RemovableHandle | Wrapped] = []
    handles.append(Wrapped(view.lm, _begin(runtime, handles)))
    for i in range(view.n_layers):
        if "layer_in" in hooks:
            handles.append(view.layers[i].register_forward_pre_hook(_layer_in(runtime, i), with_kwargs=True))
        if "heads" in hooks:
            handles.append(view.o_proj(i).register_forward_pre_hook(_heads(runtime, i)))
        router = view.router(i) if "router" in hooks else None
        if router is not None:
            handles.append(router.register_forward_hook(_router(runtime, i)))
        outputs = {
            "attn_out": (view.attention(i), method.attn_out),
            "mlp_out": (view.mlp(i), method.mlp_out),
            "layer_out": (view.layers[i], method.layer_out),
        }
        for module, edit in (found for hook, found in outputs.items() if hook in hooks):
            handles.append(module.register_forward_hook(_output(runtime, i, edit)))
    if "logits" in hooks:
        handles.append(view.lm_head.register_forward_hook(_output(runtime, view.n_layers, method.logits)))
    return handles


def _begin(runtime: Runtime, handles: list[RemovableHandle | Wrapped]) -> Any:
    """A forward begins. Without a cache the model may make one, and then its first layer is the first to be handed it: that is
    watched for this once, since a hook costs time in every step.
    """
    first = runtime.view.layers[0]

    def made(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        handles.pop().remove()
        runtime.forward.cache = _cache(args, kwargs)

    def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if runtime.is_silent:
            return
        cache = _cache(args, kwargs)
        runtime.begin(cache, args[0] if args else kwargs.get("input_ids"))
        if cache is None:
            handles.append(first.register_forward_pre_hook(made, with_kwargs=True))

    return before


def _cache(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Cache | None:
    """Families disagree whether the cache is positional; it is the only argument of its type."""
    found = kwargs.get("past_key_values")
    return found if found is not None else next((x for x in (*args, *kwargs.values()) if isinstance(x, Cache)), None)


def _layer_in(runtime: Runtime, layer: int) -> Any:
    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if runtime.is_silent or runtime.is_prefix:
            return None
        x = args[0] if args else kwargs["hidden_states"]
        new = runtime.method.layer_in(_call(runtime, layer), x)
        if new is None:
            return None
        runtime.usage.tally.edit(layer, new, x)
        return ((new, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": new})

    return hook


def _heads(runtime: Runtime, layer: int) -> Any:
    def hook(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if runtime.is_silent or runtime.is_prefix:
            return None
        z = args[0].unflatten(-1, (runtime.view.n_heads, -1))
        new = runtime.method.heads(_call(runtime, layer), z)
        if new is None:
            return None
        runtime.usage.tally.edit(layer, new, z)
        return (new.flatten(-2), *args[1:])

    return hook


def _router(runtime: Runtime, layer: int) -> Any:
    """Routers see all tokens of a batch in one row and return (logits, weights, experts), of which the weights and the experts
    go on to the kernel.
    """

    def hook(module: Any, args: tuple[Any, ...], out: tuple[Tensor, Tensor, Tensor]) -> Any:
        meta = runtime.forward.meta
        if runtime.is_silent or runtime.is_prefix or meta is None:
            return None
        logits, weights, experts = (x.view(meta.batch, meta.n_q, -1) for x in out)
        new = runtime.method.router(_call(runtime, layer), logits, weights, experts)
        if new is None:
            return None
        was, now = (torch.cat((w, e.to(w.dtype)), -1)[:, None] for w, e in ((weights, experts), new))
        runtime.usage.tally.edit(layer, now, was, meta.real(meta.batch))
        return out[0], *(x.view_as(one) for x, one in zip(new, out[1:], strict=True))

    return hook


def _output(runtime: Runtime, layer: int, edit: Any) -> Any:
    """The output of a module, or the first of several."""

    def hook(module: Any, args: tuple[Any, ...], out: Any) -> Any:
        if runtime.is_silent or runtime.is_prefix:
            return None
        x = out[0] if isinstance(out, tuple) else out
        new = edit(_call(runtime, layer), x)
        if new is None:
            return None
        runtime.usage.tally.edit(layer, new, x)
        return (new, *out[1:]) if isinstance(out, tuple) else new

    return hook


def _call(runtime: Runtime, layer: int) -> Any:
    if runtime.forward.meta is None:
        raise RuntimeError("a module hook ran before any attention layer")
    return runtime.call(layer, runtime.forward.meta)
