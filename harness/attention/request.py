"""What a method may do with a request: other inputs, forwards of its own, a second stream. See `contracts.method.Request`.

Every forward here runs with the attached method silent, so that its own work is not edited by itself; `under` attaches
another one meanwhile (a probe that watches, a patch).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from harness.attention.refusals import pictureless
from harness.attention.usage import Usage
from harness.contracts.call import Call
from harness.contracts.inputs import Draft, Inputs
from harness.contracts.method import Method
from harness.models import inputs as made
from harness.models.inputs import Sample, collate, sample_of, without_image

if TYPE_CHECKING:
    from harness.models.view import View


class AtWork(Protocol):
    """The method that is attached, as its requests know it."""

    method: Method
    usage: Usage

    def silent(self) -> AbstractContextManager[None]:
        """Inside, the model runs as if the method were not attached."""
        ...


class LiveRequest:
    """One batch of a running model. `attach`: how another method is put to work meanwhile (`attach.attach`)."""

    def __init__(
        self,
        view: View,
        inputs: made.Inputs,
        at_work: AtWork,
        attach: Callable[[View, Method], AbstractContextManager[Any]],
        artifact: dict[str, Tensor] | None = None,
    ) -> None:
        self.view, self.inputs, self.artifact = view, inputs, artifact or {}
        self.state: dict[Any, Any] = {}
        self.streams: list[LiveStream] = []
        self._at_work, self._attach = at_work, attach

    @property
    def drafts(self) -> list[Draft]:
        return [s.draft for s in self.inputs.samples]

    def without_image(self) -> Inputs:
        self._need_images()
        return collate(self.view, [without_image(self.view, s) for s in self.inputs.samples])

    def with_pixels(self, change: Callable[[Draft, Tensor], Tensor]) -> Inputs:
        self._need_images()
        assert self.view.vision is not None
        key, changed = self.view.vision.pixel_key, []
        for s in self.inputs.samples:
            other = dict(s.tensors) | {key: change(s.draft, s.tensors[key])}
            changed.append(Sample(s.ids, _anonymous(s.draft), other))
        return collate(self.view, changed)

    def with_drafts(self, change: Callable[[Draft], Draft]) -> Inputs:
        return collate(self.view, [sample_of(self.view, change(s.draft)) for s in self.inputs.samples])

    def forward(self, inputs: Inputs | Tensor, cache: Any = None, under: Method | None = None, **kwargs: Any) -> Any:
        given = {"input_ids": inputs} if torch.is_tensor(inputs) else inputs.prefill()
        watching: Any = self._attach(self.view, under) if under is not None else nullcontext()
        with self._at_work.silent(), watching:
            return self.view.lm(
                **given, **kwargs, past_key_values=cache, use_cache=True, logits_to_keep=1, return_dict=True
            )

    def count(self, name: str, value: Any) -> None:
        self._at_work.usage.tell(name, value)

    def stream(self, inputs: Inputs) -> LiveStream:
        stream = LiveStream(self, inputs)
        self.streams.append(stream)
        return stream

    def vision_attention(self, layers: Sequence[int]) -> list[Tensor]:
        self._need_images()
        assert self.view.vision is not None
        rows = [self.view.vision.attention(s.tensors, layers) for s in self.inputs.samples]
        return [torch.cat(maps) for maps in zip(*rows, strict=True)]

    def _need_images(self) -> None:
        if self.inputs.image is None or not all(s.tensors for s in self.inputs.samples):
            raise pictureless(self._at_work.method)


class LiveStream:
    """A second sequence that is fed the tokens of the main one and keeps its own cache.

    It begins with one row for each sample; under a beam search it grows to one for each beam before the first token is
    chosen, and is reordered together with the main cache (`LinkedCache`).
    """

    def __init__(self, request: LiveRequest, inputs: Inputs) -> None:
        self._request, self._inputs = request, inputs
        self._steps = 0
        out = request.forward(inputs, DynamicCache(config=request.view.config))
        self._cache, self._logits = out.past_key_values, out.logits[:, -1].float()

    @property
    def held(self) -> tuple[Any, list[int]]:
        """Its cache, and how many tokens each row began with."""
        return self._cache, [len(sample) for sample in self._inputs.samples]

    def next(self, ctx: Call) -> Tensor:
        assert ctx.tokens is not None
        rows = ctx.tokens.shape[0]
        beams = rows // self._logits.shape[0]
        if beams > 1:
            self._cache.batch_repeat_interleave(beams)
            self._logits = self._logits.repeat_interleave(beams, 0)
            self._inputs = self._inputs.repeat(beams)
        if ctx.step == 0:
            return self._logits
        further = self._inputs.further(1, self._steps)
        out = self._request.forward(ctx.tokens[:, -1:], self._cache, **further)
        self._steps += 1
        self._logits = out.logits[:, -1].float()
        return self._logits

    def reorder(self, beams: Tensor) -> None:
        """Follow the beams. Rows of a sample share its mask and positions, so only the cache moves."""
        self._cache.reorder_cache(beams)


def _anonymous(draft: Draft) -> Draft:
    """The draft of a picture that was changed: its key no longer tells what is on it."""
    return replace(draft, image_key="")
