"""What a method makes of a forward pass, as far as it can be told without running it.

* Static block patterns are counted: the share of the visible pairs that is read, over the whole prompt and by the last
  query. Data-dependent ones are priced as dense, which is the most they read; so is a pattern lowered to a mask
  (`lowering=dense`), which saves nothing.
* A second stream (`needs`) costs another forward for each one of dense; a beam search decodes a row for each of its beams.
* A question that is read token by token (`question`) leaves the prefill and is decoded; how long it is, is assumed.
* Whatever hooks into layers makes the library's small steps slower (`hooked`); whatever acts at all must prove it (`acts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.contracts.probe import Probe
from harness.pricing.requests import QUESTION

if TYPE_CHECKING:
    from harness.contracts.method import Method

PAIRS = 1 << 17  # (query, key) pairs that are looked at: evenly chosen queries stand for a long prompt's
Density = tuple[float, float]  # shares of the visible keys that are read: in prefill, in decode


@dataclass(frozen=True)
class Burden:
    """`streams`: forwards for each one of dense. `beams`: rows of decode for each request. `dense_layers`: layers that the
    pattern leaves alone. `question`: tokens of the prompt that are read one by one. `method`: the one whose pattern counts,
    if that can be done. `unknown`: what the price leaves out.
    """

    streams: int = 1
    beams: int = 1
    acts: bool = False
    hooked: bool = False
    method: Method | None = None
    dense_layers: frozenset[int] = frozenset()
    question: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def assumed(self) -> tuple[str, ...]:
        """What it takes for granted."""
        return (f"questions of {self.question} tokens, read one by one",) if self.question else ()

    def split(self, prompt: int, new: int) -> tuple[int, int]:
        """(tokens that are prefilled, forwards after that) of a request of `prompt` tokens that is answered with `new`."""
        question = min(self.question, prompt - 1)
        return prompt - question, max(0, new - 1) + question

    def density(self, n: int) -> Density:
        """Of a context of `n` tokens, in the layers where the pattern is at work."""
        return (1.0, 1.0) if self.method is None else static_density(self.method, n)


def of(method: Method, num_beams: int, lowering: str, grows: bool = False) -> Burden:
    """The burden of a method under a search with `num_beams` (1: no beam search). `grows`: its requests are dialogues."""
    static = method.blocks() is not None and not is_mask(method, lowering)
    unknown = []
    if isinstance(method, Probe):
        unknown.append("further forwards of a probe")
    if method.searches:
        unknown.append("going back in a search of its own")
    if method.rewrites_prompt:
        unknown.append("work on the inputs at every turn" if grows else "work on the inputs")
    return Burden(
        streams=2 if "second_stream" in method.needs else 1,
        beams=method.num_beams if method.searches else num_beams,
        acts=bool(method.hooks),
        hooked=any(hook.phases for hook in method.hooks),
        method=method if static else None,
        dense_layers=frozenset(method.full_layers),
        question=QUESTION if method.question_phase == "decode" else 0,
        unknown=tuple(unknown),
    )


def is_mask(method: Method, lowering: str) -> bool:
    """Whether what it leaves out is computed nevertheless."""
    return any(hook.masks_dense or (hook.is_lowered and lowering == "dense") for hook in method.hooks)


@lru_cache(maxsize=4096)
def static_density(method: Method, n: int) -> Density:
    """Counted on the pattern itself, token by token; (1, 1) where there is none, or none that can be asked by numbers."""
    import numpy as np

    blocks, rows = method.blocks(), min(n, max(1, PAIRS // n))
    if blocks is None:
        return 1.0, 1.0
    i = np.unique(np.linspace(0, n - 1, rows).round().astype(np.int64))[:, None]
    j = np.arange(n)[None]
    a, c = i // blocks.size, j // blocks.size
    try:
        read = (a == c) | np.asarray(blocks.keep(None, a, c), dtype=bool)
        if blocks.token is not None:
            read = (read & np.asarray(blocks.token(i, j), dtype=bool)) | (i == j)
    except (TypeError, AttributeError):  # heads decide, or the pattern wants tensors
        return 1.0, 1.0
    read = read & (j <= i)
    return float(read.sum() / (i + 1).sum()), float(read[-1].sum() / n)
