"""The mask that a model asked for, which our mask function returns in place of one: everything needed to build any mask
later, for the method or for the model.

The library calls a mask function once per forward and per kind of layer and hands its result to every layer of that
kind untouched. Positions are columns of the padded batch; logical positions (position - n_pad) are used for blocks, so
that a short sample in a left-padded batch sees the same pattern as alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import causal_mask_function

from harness.contracts.call import Phase
from harness.errors import UserError

ROWS = 256  # query rows of a mask that exist at once where pairs are counted


@dataclass(frozen=True)
class Span:
    """Samples of a batch that share their padding: real tokens are the columns `start` to `stop`."""

    samples: tuple[int, ...]
    start: int
    stop: int


class AskedMask:
    """One kind of mask in one forward. `kwargs` are the library's keywords, `build` the mask function that was in use
    before. What every layer call asks for is read out at once.
    """

    def __init__(self, kwargs: dict[str, Any], build: Callable[..., Any]) -> None:
        self.kwargs, self.build = kwargs, build
        self.device: Any = kwargs.get("device", "cpu")
        self.n_q: int = kwargs["q_length"]
        self.n_k: int = kwargs["kv_length"]
        self.batch: int = kwargs["batch_size"]
        self.q_offset = int(kwargs.get("q_offset", 0))
        self.kv_offset = int(kwargs.get("kv_offset", 0))
        self.window: int | None = kwargs.get("local_size")  # keys a query may see, its own included; None: all
        self.phase: Phase = "decode" if self.n_q == 1 and self.q_offset > 0 else "prefill"
        self.causal: bool = kwargs["mask_function"] is causal_mask_function  # the model's own mask is plain causal
        # causal, or causal with a window, and nothing else (no packing, no image blocks, nothing that looks ahead)
        self.plain = self.causal or (self.window is not None and bool(kwargs.get("allow_is_causal_skip", False)))

    @cached_property
    def stock(self) -> Any:
        """The mask the model would have got."""
        return self.build(**self.kwargs)

    def columns(self, rows: slice) -> Tensor:
        """int64 `[R]`: the positions of some of the query rows."""
        start, stop, _ = rows.indices(self.n_q)
        return torch.arange(self.q_offset + start, self.q_offset + stop, device=self.device)

    def keys(self, n: int) -> Tensor:
        """int64 `[1, 1, n]`: the positions of `n` keys of which none was dropped."""
        return torch.arange(self.kv_offset, self.kv_offset + n, device=self.device)[None, None]

    @cached_property
    def padding(self) -> Tensor | None:
        """bool `[B, q_offset + n_q]`, True for real tokens; None if there is no padding."""
        mask = self.kwargs.get("attention_mask")
        if mask is None:
            return None
        mask = mask[:, : self.q_offset + self.n_q]
        return None if bool(mask.all()) else mask

    @property
    def n_pad(self) -> Tensor:
        """int64 `[B]`: padding tokens before the first real one."""
        mask = self.kwargs.get("attention_mask")
        if mask is None:
            return _no_pad(self.batch, self.device)
        # without asking first whether there is padding at all: a device would have to be waited for
        return mask[:, : self.q_offset + self.n_q].int().argmax(dim=1)

    @cached_property
    def spans(self) -> list[Span]:
        """The batch, grouped by padding; sample by sample if the model's mask could differ between samples."""
        batch = self.batch
        if self.padding is None:
            bounds = [(0, self.q_offset + self.n_q)] * batch
        else:
            starts, counts = self.n_pad.tolist(), self.padding.sum(dim=1).tolist()
            bounds = [(start, start + count) for start, count in zip(starts, counts, strict=True)]
            last = [int(row.nonzero()[-1]) + 1 if row.any() else 0 for row in self.padding]
            if any(row.any() and stop != end for row, (_, stop), end in zip(self.padding, bounds, last, strict=True)):
                raise UserError("The attention mask has holes between real tokens; pad on one side only.")
        groups: dict[Any, list[int]] = {}
        for sample, bound in enumerate(bounds):
            groups.setdefault(bound if self.plain else (*bound, sample), []).append(sample)
        return [Span(tuple(samples), key[0], key[1]) for key, samples in groups.items()]

    def visible(self, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        """bool `[B, H_kv | 1, n_q, n_k]`: what the model itself shows. Positions `[n_q]` and `[B | 1, H_kv | 1, n_k]`.

        A row always sees its own key: a row of padding would otherwise see nothing, which is NaN after the softmax.
        """
        batch = torch.arange(self.batch, device=self.device)[:, None, None, None]
        i, j = q_positions[None, None, :, None], k_positions[:, :, None, :]
        shown = self.kwargs["mask_function"](batch, torch.zeros_like(batch[:1]), i, j)
        if self.padding is not None:
            shown = shown & self.padding[batch, j.clamp(0, self.padding.shape[1] - 1)]
        return (shown | (i == j)).expand(len(batch), k_positions.shape[1], len(q_positions), k_positions.shape[-1])

    @cached_property
    def pairs(self) -> Tensor:
        """int64 `[B]`: the (query, key) pairs that the model shows to real tokens, for one head, counted one by one: what a mask
        that is not `plain` needs.
        """
        total, real = torch.zeros(self.batch, dtype=torch.long, device=self.device), self.real(self.batch)
        for first in range(0, self.n_q, ROWS):
            rows = slice(first, min(first + ROWS, self.n_q))
            total += (self.visible(self.columns(rows), self.keys(self.n_k))[:, 0] & real[:, rows, None]).sum((1, 2))
        return total

    def allowed(self, span: Span) -> Callable[[Tensor, Tensor], Tensor] | None:
        """The model's predicate on logical positions of a span (real tokens only); None: plain causal."""
        if self.causal:
            return None
        sample = torch.tensor(span.samples[0], device=self.device)
        predicate, shift = self.kwargs["mask_function"], torch.tensor(span.start, device=self.device)
        return lambda i, j: predicate(sample, torch.zeros_like(sample), i + shift, j + shift)

    def real(self, batch: int) -> Tensor:
        """bool `[B, n_q]`: query rows that are no padding."""
        if self.padding is None:
            return torch.ones(batch, self.n_q, dtype=torch.bool, device=self.device)
        return self.padding[:, self.q_offset :]


@lru_cache(maxsize=16)
def _no_pad(batch: int, device: Any) -> Tensor:
    """int64 `[B]` of zeros, which nobody writes to."""
    return torch.zeros(batch, dtype=torch.long, device=device)
