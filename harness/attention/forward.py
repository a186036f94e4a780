"""One pass through the layers: what all its layer calls share, and the records that hooks are handed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache

from harness.attention.cache import TrackedLayer
from harness.attention.mask import Meta
from harness.attention.tally import Held
from harness.contracts.call import Call


@dataclass
class Forward:
    """One pass through the layers."""

    cache: Cache | None = None
    store: dict[Any, Any] = field(default_factory=dict)  # the method's, shared by all layers
    plans: dict[Any, Any] = field(default_factory=dict)  # lowered patterns
    scratch: dict[int, dict[Any, Any]] = field(default_factory=dict)  # per layer, where no cache can hold the state
    meta: Meta | None = None
    tokens: Tensor | None = None  # int64 [B, n_q]
    record: Call | None = None  # of its first layer call; the others differ in little

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

    def held(self, i: int, n: int) -> Held:
        """What the cache of layer `i` holds; `n` keys if there is none."""
        layers = () if self.cache is None else self.cache.layers
        found = layers[i] if i < len(layers) else None
        keys, state = getattr(found, "keys", None), getattr(found, "state", None)
        return Held(n if keys is None else keys.shape[-2], tuple(state) if state else ())
