"""Hooks on modules: the start of a forward, head outputs, layer outputs, logits. Only what a method overrides is
installed.
"""

from __future__ import annotations

from typing import Any

from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import Cache

from harness.attention.runtime import Runtime


def install(runtime: Runtime) -> list[RemovableHandle]:
    """Install the hooks of the attached method; the caller removes the handles."""
    view, method = runtime.view, runtime.method
    handles = [view.layers[0].register_forward_pre_hook(_begin(runtime), with_kwargs=True)]
    for i in range(view.n_layers):
        if method.overrides("heads"):
            handles.append(view.o_proj(i).register_forward_pre_hook(_heads(runtime, i)))
        if method.overrides("layer_out"):
            handles.append(view.layers[i].register_forward_hook(_layer_out(runtime, i)))
    if method.overrides("logits"):
        handles.append(view.lm_head.register_forward_hook(_logits(runtime)))
    return handles


def _begin(runtime: Runtime) -> Any:
    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Families disagree whether the cache is positional; it is the only argument of its type.
        runtime.begin(next((x for x in (*args, *kwargs.values()) if isinstance(x, Cache)), None))

    return hook


def _heads(runtime: Runtime, layer: int) -> Any:
    def hook(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        z = args[0].unflatten(-1, (runtime.view.n_heads, -1))
        new = runtime.method.heads(_call(runtime, layer), z)
        return None if new is None else (_touch(runtime, layer, new).flatten(-2), *args[1:])

    return hook


def _layer_out(runtime: Runtime, layer: int) -> Any:
    def hook(module: Any, args: tuple[Any, ...], out: Any) -> Any:
        x = out[0] if isinstance(out, tuple) else out
        new = runtime.method.layer_out(_call(runtime, layer), x)
        if new is None:
            return None
        _touch(runtime, layer, new)
        return (new, *out[1:]) if isinstance(out, tuple) else new

    return hook


def _logits(runtime: Runtime) -> Any:
    def hook(module: Any, args: tuple[Any, ...], out: Any) -> Any:
        new = runtime.method.logits(_call(runtime, runtime.view.n_layers), out)
        return None if new is None else _touch(runtime, runtime.view.n_layers, new)

    return hook


def _call(runtime: Runtime, layer: int) -> Any:
    if runtime.forward.meta is None:
        raise RuntimeError("a module hook ran before any attention layer")
    return runtime.call(layer, runtime.forward.meta)


def _touch(runtime: Runtime, layer: int, new: Any) -> Any:
    runtime.usage.touched.add(layer)
    return new
