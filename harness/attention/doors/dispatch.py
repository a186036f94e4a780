"""What transformers calls while a method is attached: one attention function and one mask function under one permanent
name.

Registration in transformers is global and cannot be undone, so the registered pair looks up which attachment is active for
the text config it is called with. Without a mask function of the same name the library would silently drop
causality and padding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from harness.attention.mask import AskedMask

NAME = "heed_dispatch"  # no '/', 'flash', 'sdpa' or 'flex': the library treats names with these specially


class Served(Protocol):
    """An attachment as the library calls it: its own attention and mask functions."""

    def attention(self, module: Any, q: Tensor, k: Tensor, v: Tensor, meta: Any, **kwargs: Any) -> Any:
        """The attention function: see `runtime.Runtime.attention`."""
        ...

    def mask(self, **kwargs: Any) -> Any:
        """The mask function: see `runtime.Runtime.mask`."""
        ...

    def silent(self) -> AbstractContextManager[None]:
        """Inside, the model runs as if nothing were attached here."""
        ...


_active: dict[int, list[Served]] = {}  # id of a text config -> attachments, the innermost last


def push(config: Any, runtime: Served) -> None:
    """Make `runtime` the one that serves `config`."""
    _active.setdefault(id(config), []).append(runtime)
    _register()


def pop(config: Any) -> None:
    """Undo the last `push` for `config`."""
    _active[id(config)].pop()
    if not _active[id(config)]:
        del _active[id(config)]
    _register()


def _register() -> None:
    """One model alone is served directly, without a look-up in every layer call."""
    inner = [stack[-1] for stack in _active.values()]
    AttentionInterface.register(NAME, inner[0].attention if len(inner) == 1 else _attention)
    AttentionMaskInterface.register(NAME, inner[0].mask if len(inner) == 1 else _mask)


def outer(config: Any) -> Served | None:
    """The attachment that is active now."""
    return _active[id(config)][-1] if id(config) in _active else None


@contextmanager
def silenced(config: Any) -> Iterator[None]:
    """Inside, the model of `config` runs as if none of the methods that are active now were attached."""
    with ExitStack() as stack:
        for runtime in _active.get(id(config), ()):
            stack.enter_context(runtime.silent())
        yield


def previous(config: Any, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(attention, mask) functions behind `name`: what untouched calls go to, whatever it was."""
    if (enclosing := outer(config)) is not None:
        return enclosing.attention, enclosing.mask
    return (_eager if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]), ALL_MASK_ATTENTION_FUNCTIONS[name]


def _eager(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Eager attention differs between families (sinks, soft caps); each modeling file has its own."""
    return sys.modules[type(module).__module__].eager_attention_forward(module, *args, **kwargs)


def _mask(**kwargs: Any) -> AskedMask:
    return _runtime(kwargs["config"]).mask(**kwargs)


def _attention(module: Any, q: Tensor, k: Tensor, v: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
    return _runtime(module.config).attention(module, q, k, v, attention_mask, **kwargs)


def _runtime(config: Any) -> Served:
    found = outer(config)
    if found is None:
        raise unattached()
    return found


def unattached() -> RuntimeError:
    return RuntimeError(f"attention '{NAME}' is set on a config to which no method is attached (a copied model?)")
