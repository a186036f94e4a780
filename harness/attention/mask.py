"""What our mask function returns in place of a mask: everything needed to build any mask later, for the method or for
the model.

The library calls a mask function once per forward and per kind of layer and hands its result to every layer of that
kind untouched. Positions are columns of the padded batch; logical positions (position - n_pad) are used for blocks, so
that a short sample in a left-padded batch sees the same pattern as alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import causal_mask_function

from harness.errors import UserError


@dataclass(frozen=True)
class Span:
    """Samples of a batch that share their padding: real tokens are the columns `start` to `stop`."""

    samples: tuple[int, ...]
    start: int
    stop: int


@dataclass(eq=False)
class Meta:
    """One kind of mask in one forward. `kwargs` are the library's keywords, `build` the mask function that was in use
    before.
    """

    kwargs: dict[str, Any]
    build: Callable[..., Any]

    @cached_property
    def stock(self) -> Any:
        """The mask the model would have got."""
        return self.build(**self.kwargs)

    @cached_property
    def n_q(self) -> int:
        return self.kwargs["q_length"]

    @cached_property
    def n_k(self) -> int:
        return self.kwargs["kv_length"]

    @cached_property
    def q_offset(self) -> int:
        return int(self.kwargs.get("q_offset", 0))

    @cached_property
    def kv_offset(self) -> int:
        return int(self.kwargs.get("kv_offset", 0))

    @property
    def device(self) -> Any:
        return self.kwargs.get("device", "cpu")

    @cached_property
    def window(self) -> int | None:
        """Keys a query may see in this kind of layer, its own included; None: all."""
        return self.kwargs.get("local_size")

    @property
    def causal(self) -> bool:
        """True if the model's own mask is plain causal."""
        return self.kwargs["mask_function"] is causal_mask_function

    @property
    def plain(self) -> bool:
        """True if it is causal, or causal with a window, and nothing else (no packing, no image blocks)."""
        return self.causal or (self.window is not None and bool(self.kwargs.get("allow_is_causal_skip", False)))

    @cached_property
    def padding(self) -> Tensor | None:
        """bool `[B, q_offset + n_q]`, True for real tokens; None if there is no padding."""
        mask = self.kwargs.get("attention_mask")
        if mask is None:
            return None
        mask = mask[:, : self.q_offset + self.n_q]
        return None if bool(mask.all()) else mask

    @cached_property
    def n_pad(self) -> Tensor:
        """int64 `[B]`: padding tokens before the first real one."""
        mask = self.kwargs.get("attention_mask")
        if mask is None:
            return torch.zeros(self.kwargs["batch_size"], dtype=torch.long, device=self.device)
        # without asking first whether there is padding at all: a device would have to be waited for
        return mask[:, : self.q_offset + self.n_q].int().argmax(dim=1)

    @cached_property
    def spans(self) -> list[Span]:
        """The batch, grouped by padding; sample by sample if the model's mask could differ between samples."""
        batch = self.kwargs["batch_size"]
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
        batch = torch.arange(self.kwargs["batch_size"], device=self.device)[:, None, None, None]
        i, j = q_positions[None, None, :, None], k_positions[:, :, None, :]
        shown = self.kwargs["mask_function"](batch, torch.zeros_like(batch[:1]), i, j)
        if self.padding is not None:
            shown = shown & self.padding[batch, j.clamp(0, self.padding.shape[1] - 1)]
        return (shown | (i == j)).expand(len(batch), k_positions.shape[1], len(q_positions), k_positions.shape[-1])

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
