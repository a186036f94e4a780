"""Several methods on one batch of prompts: the prompt is read once by the dense model, and every method goes on from there.

For methods whose prefill is dense (they compress the cache after it, or choose what decode reads). The prefill is the
library's own `generate` of one token, so the model is fed exactly what it is fed when a method runs alone; meanwhile
every method fills and edits a cache of its own (`attention.fan`). The first token is everybody's, because none of them
touches logits. Answers are those of `generate`, bit for bit.

Where the question is read token by token (`AfterContext`), what is shared is the prefill of the context.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from harness.asking.decoding import GREEDY, Decoding
from harness.asking.generation import Generation, call, generations
from harness.attention import apart
from harness.attention.attach import serving
from harness.attention.shared_prefill import SharedPrefill
from harness.models.inputs import Inputs, Sample, collate
from harness.models.view import View

if TYPE_CHECKING:
    from harness.attention.attach import Attached


@dataclass(eq=False)
class Prefilled:
    """A batch of which the prompts were read once; `go_on` gives the answers under one of the methods."""

    view: View
    inputs: Inputs
    limits: Sequence[int]
    decoding: Decoding
    first: Tensor | None  # int64 [B, 1]: the token after the prompt; None: the questions are still to be read
    base: Any  # the dense cache
    caches: dict[int, Any]  # id of an attached method -> its own cache

    @torch.no_grad()
    def go_on(self, attached: Attached) -> list[Generation]:
        """The rest of the answers."""
        view, inputs, width = self.view, self.inputs, self.inputs.ids.shape[1]
        cache = self.caches.pop(id(attached), None)
        cache = _copy(self.base) if cache is None else cache
        if self.first is None:
            with attached.active():
                apart.read_question(view, inputs, cache)
                given = {"input_ids": inputs.ids, "attention_mask": inputs.mask}
                out = call(view, given, inputs.samples, self.limits, self.decoding, cache, attached)
            rows = out.sequences[:, width:].tolist()
            return generations(view, inputs.samples, rows, self.limits, out.past_key_values, self.decoding, attached)
        over = torch.isin(self.first[:, 0], torch.tensor(view.stop_ids, device=self.first.device, dtype=torch.long))
        over |= torch.tensor(self.limits, device=over.device) <= 1
        rows = self.first
        if not bool(over.all()):
            given = {"input_ids": torch.cat((inputs.ids, self.first), dim=1)}
            given["attention_mask"] = torch.cat((inputs.mask, inputs.mask.new_ones(len(over), 1)), dim=1)
            with attached.active():
                out = call(view, given, inputs.samples, self.limits, self.decoding, cache, attached, over, done=1)
            rows, cache = out.sequences[:, width:], out.past_key_values
        return generations(view, inputs.samples, rows.tolist(), self.limits, cache, self.decoding, attached)


@torch.no_grad()
def prefill(
    view: View,
    samples: Sequence[Sample],
    limits: Sequence[int],
    members: Sequence[Attached],
    decoding: Decoding = GREEDY,
) -> Prefilled:
    """Read the prompts once for all `members` (not active; each as `attach.prepared` made it)."""
    for sample, limit in zip(samples, limits, strict=True):
        view.check_length(len(sample) + limit)
    inputs = collate(view, samples)
    caches, runtimes = {}, []
    for member in members:
        member.begin(inputs)
        runtime, cache = member.runtime, member.new_cache()
        if runtime is not None:
            runtime.begin(cache)
            runtimes.append(runtime)
            caches[id(member)] = cache
    given = {"input_ids": inputs.ids, "attention_mask": inputs.mask}
    with serving(view, SharedPrefill(view, runtimes)) if runtimes else nullcontext():
        if inputs.tail:
            base = apart.read_context(view, inputs)
            return Prefilled(view, inputs, limits, decoding, None, base, caches)
        out = call(view, given, samples, [1] * len(samples), decoding, DynamicCache(config=view.config))
    width = inputs.ids.shape[1]
    return Prefilled(view, inputs, limits, decoding, out.sequences[:, width:], out.past_key_values, caches)


def _copy(cache: Any) -> Any:
    """A cache that grows by itself from the same tensors (layers append by making new ones)."""
    new = copy(cache)
    new.layers = [copy(layer) for layer in cache.layers]
    return new
