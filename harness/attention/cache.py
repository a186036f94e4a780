"""A KV cache whose layers know the true position of every key they still hold.

Dropping keys must not move the model's idea of where it is: `get_seq_length` counts every token ever seen (as the
library's own sliding layers do), so default positions and the query offset stay true after compression. What a method
remembers about a layer lives in `state` beside the keys, so that copying, reordering or selecting the cache carries it
along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import LongTensor, Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


class TrackedLayer(DynamicLayer):
    """One layer: keys and values `[B, H_kv, n, D]`, their true `positions` `[B, H_kv, n]` (None: all), `state`."""

    is_croppable = False  # what a method dropped or remembered cannot be taken back

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seen = 0
        self.positions: Tensor | None = None
        self.state: dict[Any, Any] = {}  # tensors in it are batch first

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append, as the library does, and number the new tokens."""
        n = key_states.shape[-2]
        if self.positions is not None:
            new = torch.arange(self.seen, self.seen + n, device=self.positions.device)
            self.positions = torch.cat((self.positions, new.expand(*self.positions.shape[:2], n)), dim=-1)
        self.seen += n
        return super().update(key_states, value_states, *args, **kwargs)

    def adopt(self, key_states: Tensor, value_states: Tensor, copy: bool) -> None:
        """Begin with keys and values that were computed for several caches; `copy` if they will be edited here."""
        self.lazy_initialization(key_states, value_states)
        self.keys, self.values = (x.clone() if copy else x for x in (key_states, value_states))
        self.seen = key_states.shape[-2]

    def keep(self, index: Tensor) -> None:
        """Drop every key whose column is not in `index` (int64 `[B, H_kv, n]`, ascending). The newest key stays whatever a
        method drops: attention over no keys at all is no number, and a cache of none saves nothing that one would cost.
        """
        assert self.keys is not None and self.values is not None
        n = self.keys.shape[-2]
        if index.shape[-1] == 0:
            index = index.new_full((*index.shape[:2], 1), n - 1)
        positions = torch.arange(n, device=index.device) if self.positions is None else self.positions
        self.positions = positions.expand(*index.shape[:2], n).gather(2, index)
        columns = index[..., None].expand(*index.shape, self.keys.shape[-1])
        self.keys = self.keys.gather(2, columns)
        columns = index[..., None].expand(*index.shape, self.values.shape[-1])
        self.values = self.values.gather(2, columns)

    def get_seq_length(self) -> int:
        """Tokens seen, dropped ones included."""
        return self.seen

    @property
    def size(self) -> int:
        """Keys that are left."""
        return self.keys.shape[-2] if self.keys is not None and self.keys.numel() else 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys the next forward will find, and the column of the first."""
        return self.size + query_length, 0

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.seen, self.positions, self.state = 0, None, {}

    def crop(self, tokens_to_remove: int) -> None:
        """Refused: see `is_croppable`."""
        raise NotImplementedError("a cache edited by an attention method cannot be cropped (no assisted generation)")

    def reorder_cache(self, beam_idx: LongTensor) -> None:
        """Follow the beams, positions and state included."""
        super().reorder_cache(beam_idx)
        self._each(lambda t: t.index_select(0, beam_idx.to(t.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sample."""
        super().batch_repeat_interleave(repeats)
        self._each(lambda t: t.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some samples."""
        super().batch_select_indices(indices)
        self._each(lambda t: t[indices, ...])

    def _each(self, change: Callable[[Tensor], Tensor]) -> None:
        if self.positions is not None:
            self.positions = change(self.positions)
        self.state = {key: change(v) if torch.is_tensor(v) else v for key, v in self.state.items()}


def tracked_cache() -> Cache:
    """An empty cache of tracked layers. Every layer keeps all keys; sliding layers are served by the mask, not by the
    cache.
    """
    return Cache(layer_class_to_replicate=TrackedLayer)


class Reordered(Protocol):
    """What follows the beams of a cache."""

    def reorder(self, beams: Tensor) -> None:
        """Put row `beams[i]` in place of row `i`."""
        ...


class LinkedCache(DynamicCache):
    """The main stream's cache beside second `streams` (those that there are by then): whatever reorders it reorders them."""

    def __init__(self, config: Any, streams: Callable[[], Sequence[Reordered]]) -> None:
        super().__init__(config=config)
        self._streams = streams

    def reorder_cache(self, beam_idx: Any) -> None:
        """Follow the beams, and take the streams along."""
        super().reorder_cache(beam_idx)
        for stream in self._streams():
            stream.reorder(beam_idx)
