"""One pass through the layers: what all its layer calls share, and the records that hooks are handed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache

from harness.attention.cache import TrackedLayer
from harness.attention.mask import AskedMask
from harness.attention.tally import Layer, Step
from harness.contracts.call import Call


@dataclass(slots=True)
class Forward:
    """One pass through the layers."""

    cache: Cache | None = None
    store: dict[Any, Any] = field(default_factory=dict)  # the method's, shared by all layers
    plans: dict[Any, Any] = field(default_factory=dict)  # lowered patterns
    # per layer, where no cache can hold the state
    scratch: defaultdict[int, dict[Any, Any]] = field(default_factory=lambda: defaultdict(dict))
    meta: AskedMask | None = None
    tokens: Tensor | None = None  # int64 [B, n_q]
    step: Step | None = None  # as it is counted, from its first mask on
    record: Call | None = None  # of the layer call that runs

    def layer(self, i: int, make: bool = False) -> TrackedLayer | None:
        """The tracked cache layer, if there is one (`make`: a cache that replicates its layers gets it now)."""
        if self.cache is None:
            return None
        layers = self.cache.layers
        while make and len(layers) <= i and self.cache.layer_class_to_replicate:
            layers.append(self.cache.layer_class_to_replicate())
        # by type alone: the library's layers are abstract classes, of which isinstance asks slowly, in every layer call
        found = layers[i] if i < len(layers) else None
        return found if type(found) is TrackedLayer else None

    def describe(self, i: int, meta: AskedMask, q: Tensor, k: Tensor, v: Tensor) -> Layer:
        """What does not change about layer `i` while the request runs."""
        layers = () if self.cache is None else self.cache.layers
        sliding = getattr(layers[i], "sliding_window", None) if i < len(layers) else None
        key_bytes = k.shape[1] * (k.shape[3] + v.shape[3]) * k.element_size()
        return Layer(meta.window, q.shape[1], key_bytes, None if sliding is None else sliding - 1)
