"""The hooks of a method as data, in the order in which data meets them: where each acts, and what follows from that.

A hook is a function of `Method`; overriding it is what installs it. Who wants to know what a method can do asks the records
of its hooks (`Method.hooks`) for the fact that matters there, never for a hook by name. So a new hook is a function of
`Method`, a record here, and a call in the one place that runs it; sharing, proving, pricing and timing follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal["model", "input", "request", "layer", "attention", "head", "search"]

NEVER: frozenset[str] = frozenset()
DECODE = frozenset({"decode"})
BOTH = frozenset({"prefill", "decode"})


@dataclass(frozen=True, kw_only=True)
class Hook:
    """What holds for a hook whatever a method does in it. A fact that is not stated is False."""

    name: str  # of the function of `Method`
    # around the whole model, before the processor, before the prefill, around the modules of a layer, in the attention
    # function, at the language head, in place of the search
    at: Place
    phases: frozenset[str] = BOTH  # forwards in which it is called; none: it stands outside of every forward
    leaves_out: bool = False  # it can only leave keys out, so reading as many as dense is doing nothing
    drops_keys: bool = False  # it takes keys out of the cache, so that only the next forward misses them
    rewrites_prompt: bool = False  # the model reads another prompt, or other pictures, than the task gave
    masks_dense: bool = False  # computed as a mask in a dense kernel, which saves nothing: it is only simulated
    is_lowered: bool = False  # computed by the lowering of the run (`lowering=`), which may be such a mask
    shares_prefill: bool = False  # it leaves a dense prefill as it is, so several methods may go on from one
    tracks_keys: bool = False  # it needs a cache that keeps every key of every layer with its true position
    remembers: bool = False  # what it keeps of the prompt is gone where a model reads everything anew
    whole_rows: bool = False  # it must be given the logits of a text at once, not in pieces
    routes: bool = False  # it stands where experts are chosen, and not every model has any


_ALL = (
    Hook(name="around", at="model", shares_prefill=True),  # on its own it only looks on
    Hook(name="transform", at="input", phases=NEVER, rewrites_prompt=True),
    Hook(name="begin", at="request", phases=NEVER, remembers=True),
    Hook(name="layer_in", at="layer"),
    Hook(name="mask", at="attention", masks_dense=True),  # it may show other keys instead, so it does not just leave out
    Hook(name="pattern", at="attention", leaves_out=True, is_lowered=True),
    Hook(
        name="select", at="attention", phases=DECODE, leaves_out=True, shares_prefill=True, tracks_keys=True, remembers=True
    ),
    Hook(name="scores", at="attention"),
    Hook(name="probs", at="attention"),
    Hook(name="edit_output", at="attention"),
    Hook(name="edit_cache", at="attention", leaves_out=True, drops_keys=True, shares_prefill=True, tracks_keys=True, remembers=True),
    Hook(name="heads", at="layer"),
    Hook(name="attn_out", at="layer"),
    Hook(name="router", at="layer", routes=True),
    Hook(name="mlp_out", at="layer"),
    Hook(name="layer_out", at="layer"),
    Hook(name="logits", at="head", whole_rows=True),
    Hook(name="generate", at="search", phases=NEVER, remembers=True),
)  # fmt: skip
HOOKS = {hook.name: hook for hook in _ALL}
