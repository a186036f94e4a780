"""How many bytes of keys and values caches hold.

physical: the storages behind all tensors of the caches, each counted once. A sliding layer keeps a view of a longer tensor
alive, so the storage is what memory really costs; it belongs to a batch. logical: what a sample alone would need: padding
and the positions that other samples of the batch went on for are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.attention.tally import Held


def physical(*caches: Any) -> int:
    """Bytes held by `caches` together."""
    seen: dict[tuple[torch.device, int], int] = {}
    for tensor in (t for cache in caches for t in _tensors(cache)):
        storage = tensor.untyped_storage()
        seen[tensor.device, storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())


def logical(cache: Any, positions: Sequence[int], held: Sequence[Mapping[int, Held]] | None = None) -> list[int]:
    """Bytes for each sample of which `positions[b]` tokens were read.

    `held[b]`: layer -> what was there after the sample's own last step, where that was counted; else a layer that holds
    fewer keys than were read (it slides) counts what it holds. Tensors beside keys and values (scales, sinks) count in
    full, those with entries for tokens (`Call.state`) as far as the sample's own reach.
    """
    batch, totals = max(len(positions), 1), [0] * len(positions)
    for i, layer in enumerate(getattr(cache, "layers", ())):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        width = keys.shape[-2] if isinstance(keys, Tensor) and keys.dim() == 4 else 0
        state: dict[Any, Any] = getattr(layer, "state", {})
        pair = (_bytes(keys) + _bytes(values)) // batch // width if width else 0
        rest = [t for name, t in layer.__dict__.items() if name not in ("keys", "values", "state")]
        for b, n in enumerate(positions):
            own = Held(min(width, n), tuple(state)) if held is None else held[b].get(i, Held(0, ()))
            beside = sum(_share(name, state[name], own.keys) for name in own.state if name in state)
            totals[b] += pair * own.keys + (_numbers(rest) + beside) // batch
    return totals


def _share(name: Any, value: Any, n: int) -> int:
    """Bytes of a method's state, of all samples together, as far as `n` tokens reach in it."""
    paged = isinstance(name, tuple) and len(name) == 2 and isinstance(value, Tensor) and value.dim() > 2
    if not paged or not value.shape[2]:
        return _numbers([value])
    return _bytes(value) // value.shape[2] * -(-n // name[1])


def _numbers(values: Any) -> int:
    """Bytes of the tensors among `values`; positions are no part of what a cache must hold."""
    return sum(_bytes(t) for t in _of(values) if t.dtype != torch.int64)


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
