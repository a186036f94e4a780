"""`attach(view, method)`: a context manager in which the model runs under the method, and after which it is exactly
what it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers.cache_utils import Cache

from harness.attention import refusals, row_hooks
from harness.attention.cache import LinkedCache, tracked_cache
from harness.attention.doors import dispatch, modules
from harness.attention.lowering.lower import LOWERINGS
from harness.attention.request import LiveRequest, LiveStream
from harness.attention.runtime import Runtime
from harness.attention.usage import Counts, Usage
from harness.contracts.method import Method
from harness.contracts.probe import Probe
from harness.errors import Unsupported, UserError, nearest
from harness.models.families import ROUTED
from harness.models.inputs import Inputs

if TYPE_CHECKING:
    from harness.models.view import View


class Attached:
    """A method on a model. Requests need no ceremony: a forward on an empty cache begins a new one."""

    def __init__(
        self, view: View, method: Method, runtime: Runtime | None, artifact: Mapping[str, Tensor] | None = None
    ) -> None:
        self.view, self.method, self.artifact = view, method, dict(artifact or {})
        self.runtime = runtime

    @property
    def batching(self) -> str:
        """`any`, `equal` (prompts of one length in each batch) or `one`."""
        return self.method.batching

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, the model runs under the method; afterwards, whatever happened inside, it is what it was."""
        if self.runtime is None:
            yield
            return
        with serving(self.view, self.runtime):
            yield

    def new_cache(self) -> Cache | None:
        """An empty cache to pass as `past_key_values`; None: the library's default will do. One for each request."""
        if self.method.tracks_keys:
            return tracked_cache()
        if self.runtime is None or "second_stream" not in self.method.needs:
            return None
        return LinkedCache(self.view.config, lambda: self.streams)

    def begin(self, inputs: Inputs) -> Inputs:
        """Announce a batch: the method's own work before the prefill is done here, so it belongs to the time to first
        token. Returns the inputs with the positions that the method wants.
        """
        if self.runtime is None:
            return inputs
        refusals.check_pictures(self.method, inputs.image is not None)
        request = LiveRequest(self.view, inputs, self.runtime, attach, self.artifact)
        self.runtime.announce(request)
        wanted = self.method.begin(request) or {}
        if wanted:
            request.inputs = replace(inputs, **wanted)  # hooks see what is really read
            self.runtime.usage.tally.everywhere = True
        return request.inputs

    @property
    def request(self) -> LiveRequest:
        """The batch that was announced last."""
        assert self.runtime is not None and self.runtime.request is not None
        return self.runtime.request

    @property
    def streams(self) -> list[LiveStream]:
        """The second streams of the batch that was announced last, with their caches."""
        request = self.runtime.request if self.runtime is not None else None
        return [] if request is None else request.streams

    def prefix(self) -> Any:
        """A context in which a prefix that prompts share is computed."""
        return nullcontext() if self.runtime is None else self.runtime.prefix()

    def counted(self, steps: Sequence[int]) -> list[Counts] | None:
        """What each sample of the batch that has just been computed read: `steps[b]` decode steps are its own. None where
        nothing is installed, and so nothing is counted.
        """
        return None if self.runtime is None else self.runtime.usage.counted(len(steps), steps)

    def reset(self) -> None:
        """Start counting anew."""
        if self.runtime is not None:
            self.runtime.usage = Usage()

    def report(self) -> dict[str, Any]:
        """What was really read since the last reset: see `usage.report`. Dense installs nothing and counts nothing."""
        return (self.runtime.usage if self.runtime is not None else Usage()).report()


@contextmanager
def attach(
    view: View, method: Method, lowering: str = "auto", artifact: Mapping[str, Tensor] | None = None
) -> Iterator[Attached]:
    """Run `view.model` under `method` inside the `with` block.

    `lowering`: how patterns are computed: `dense` (a mask, the reference), `gather`, `flex` (compiled), or `auto`. Only
    the text part of the model is touched. `artifact`: what the method's lesson learned. Raises `UserError` if the
    method cannot serve the model; whatever happens inside, the model is restored.
    """
    made = prepared(view, method, lowering, artifact)
    with made.active():
        yield made


def prepared(
    view: View, method: Method, lowering: str = "auto", artifact: Mapping[str, Tensor] | None = None
) -> Attached:
    """A method that can serve the model, not at work yet: `active()` puts it to work, as often as wanted."""
    if lowering not in LOWERINGS:
        raise UserError(f"Unknown lowering '{lowering}': {nearest(lowering, LOWERINGS)}")
    method.validate()
    check(view, method, lowering)
    looks = isinstance(method, Probe)  # its requests are announced to it, whatever hooks it has
    return Attached(view, method, Runtime(view, method, lowering) if method.hooks or looks else None, artifact)


@contextmanager
def serving(view: View, runtime: Runtime) -> Iterator[None]:
    """Inside, `runtime` answers every attention call of the text model."""
    before = view.attn_setting()
    runtime.bind(*dispatch.previous(view.config, before))
    dispatch.push(view.config, runtime)
    handles = []
    try:
        view.set_attn(dispatch.NAME)
        handles = modules.install(runtime)
        with runtime.around():
            yield
    finally:
        for handle in handles:
            handle.remove()
        dispatch.pop(view.config)
        view.set_attn(before)


def check(view: View, method: Method, lowering: str) -> None:
    """What the harness itself cannot serve, then what the method cannot."""
    if method.leaves_out and view.softcap is not None:
        raise Unsupported(
            f"Method '{method.name}' cannot serve this model: its attention logits are soft-capped "
            f"(c = {view.softcap}), which the sparse lowerings do not compute."
        )
    if method.leaves_out and view.has_sinks and lowering == "flex":
        raise UserError("lowering=flex has no sink logits, which this model has; use auto, gather or dense.")
    if any(hook.routes for hook in method.hooks) and not view.routed_layers:
        raise Unsupported(
            f"Method '{method.name}' cannot serve this model: it acts where experts are chosen, and the family "
            f"'{view.family}' has none; use a mixture of experts (families: {', '.join(ROUTED)})."
        )
    row_hooks.check(method)
    refusals.check_eyes(method, view, view.vision is not None)
    last = [i for i in method.full_layers if i >= view.n_layers]
    if last:
        raise UserError(f"method.{method.name}.full_layers names layer {last[0]}, but the model has {view.n_layers}.")
    try:
        method.check(view)
    except UserError as error:
        raise Unsupported(str(error)) from error
