"""How many bytes of keys and values a cache holds.

physical: the storages behind all tensors of the cache, each counted once, per sample of the batch. A sliding layer
keeps a view of a longer tensor alive, so the storage is what memory really costs. logical: what the sample alone would
need: padding and the positions that other samples of the batch went on for are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def physical(cache: Any, batch: int) -> int:
    """Bytes held by `cache`, divided by the batch size."""
    seen: dict[tuple[torch.device, int], int] = {}
    for tensor in _tensors(cache):
        storage = tensor.untyped_storage()
        seen[tensor.device, storage.data_ptr()] = storage.nbytes()
    return sum(seen.values()) // max(batch, 1)


def logical(cache: Any, positions: Sequence[int]) -> list[int]:
    """Bytes for each sample of which `positions[b]` tokens were read.

    A layer that holds fewer (it slides, or it was compressed) counts what it holds; tensors beside keys and values
    (scales, page summaries) count in full.
    """
    batch = max(len(positions), 1)
    totals = [0] * len(positions)
    for layer in getattr(cache, "layers", ()):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        held = keys.shape[-2] if isinstance(keys, Tensor) and keys.dim() == 4 else 0
        pair = (_bytes(keys) + _bytes(values)) // batch if held else 0
        beside = [
            t for t in _of(layer.__dict__.values()) if t is not keys and t is not values and t.dtype != torch.int64
        ]
        rest = sum(map(_bytes, beside)) // batch
        # a cache that was compressed once grows with the batch's longest answer; the sample's own may be shorter
        grown = layer.seen - layer.cut_at if getattr(layer, "cut_at", 0) else 0
        for b, n in enumerate(positions):
            own = min(held - min(max(positions) - n, grown), n)
            totals[b] += (pair // held * own if held else 0) + rest
    return totals


def _bytes(tensor: Any) -> int:
    return tensor.numel() * tensor.element_size() if isinstance(tensor, Tensor) else 0


def _tensors(cache: Any) -> Iterator[Tensor]:
    for layer in getattr(cache, "layers", ()):
        yield from _of(layer.__dict__.values())


def _of(values: Any) -> Iterator[Tensor]:
    """Tensors with at least one dimension among `values`, inside tuples, lists and dictionaries too."""
    for value in values:
        if isinstance(value, Tensor) and value.dim():
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _of(value)
        elif isinstance(value, dict):
            yield from _of(value.values())
