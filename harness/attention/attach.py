"""`attach(view, method)`: a context manager in which the model runs under the method, and after which it is exactly
what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers.cache_utils import Cache

from harness.attention import dispatch, module_hooks
from harness.attention.cache import tracked_cache
from harness.attention.lower import LOWERINGS
from harness.attention.runtime import Runtime
from harness.attention.usage import Usage
from harness.contracts.method import HOOKS, Method
from harness.errors import UserError, nearest

if TYPE_CHECKING:
    from harness.models.view import View


class Attached:
    """A method on a model. Requests need no ceremony: a forward on an empty cache begins a new one."""

    def __init__(self, method: Method, runtime: Runtime | None) -> None:
        self.method = method
        self._runtime = runtime

    @property
    def batching(self) -> str:
        """`any`, `equal` (prompts of one length in each batch) or `one`."""
        return self.method.batching

    def new_cache(self) -> Cache | None:
        """An empty cache to pass as `past_key_values`; None: the library's default will do. One for each request."""
        return tracked_cache() if self.method.overrides("select", "edit_cache") else None

    def reset(self) -> None:
        """Start counting anew."""
        if self._runtime is not None:
            self._runtime.usage = Usage()

    def report(self) -> dict[str, Any]:
        """What was really read since the last reset: see `usage.Usage.report`. Dense installs nothing and counts
        nothing.
        """
        return (self._runtime.usage if self._runtime is not None else Usage()).report()


@contextmanager
def attach(view: View, method: Method, lowering: str = "auto") -> Iterator[Attached]:
    """Run `view.model` under `method` inside the `with` block.

    `lowering`: how patterns are computed: `dense` (a mask, the reference), `gather`, `flex` (compiled), or `auto`. Only
    the text part of the model is touched. Raises `UserError` if the method cannot serve the model; whatever happens
    inside, the model is restored.
    """
    if lowering not in LOWERINGS:
        raise UserError(f"Unknown lowering '{lowering}': {nearest(lowering, LOWERINGS)}")
    method.validate()
    _check(view, method, lowering)
    if not method.overrides(*HOOKS):
        yield Attached(method, None)
        return
    before = view.attn_setting()
    runtime = Runtime(view, method, lowering, *dispatch.previous(view.config, before))
    dispatch.push(view.config, runtime)
    handles = []
    try:
        view.set_attn(dispatch.NAME)
        handles = module_hooks.install(runtime)
        yield Attached(method, runtime)
    finally:
        for handle in handles:
            handle.remove()
        dispatch.pop(view.config)
        view.set_attn(before)


def _check(view: View, method: Method, lowering: str) -> None:
    """What the harness itself cannot serve, then what the method cannot."""
    reads = method.overrides("pattern", "select", "edit_cache")
    if reads and view.softcap is not None:
        raise UserError(
            f"Method '{method.name}' cannot serve this model: its attention logits are soft-capped "
            f"(c = {view.softcap}), which the sparse lowerings do not compute."
        )
    if reads and view.has_sinks and lowering == "flex":
        raise UserError("lowering=flex has no sink logits, which this model has; use auto, gather or dense.")
    last = [i for i in getattr(method, "full_layers", ()) if i >= view.n_layers]
    if last:
        raise UserError(f"method.{method.name}.full_layers names layer {last[0]}, but the model has {view.n_layers}.")
    method.check(view)
