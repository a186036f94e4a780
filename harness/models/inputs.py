"""From a draft (text and pictures) to what the model reads: samples one by one, then left-padded batches.

Everything behind the processor works at the level of the text decoder: images are encoded once, their features are put
into the embeddings, and positions are explicit. So a prefill can be cut, shared or run a second time with other
pictures, in the same way for every family.

What is the same picture (`Draft.image_key`) is decoded, resized and encoded once per model; both are kept up to
`MEMORY` bytes, the least recently used go first.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from harness.contracts.inputs import Draft
from harness.models.blind import blind

if TYPE_CHECKING:
    from harness.models.view import View

MEMORY = 4 << 30  # bytes of pixels and features that are kept per model


@dataclass(frozen=True, eq=False)
class Sample:
    """One request as token ids, image positions included, with what the processor made of its pictures. `rewritten`: a
    method's `transform` made another request of it. `context`: how many of the ids are prefilled before the rest, the
    question, is read one by one; None: all of them.
    """

    ids: tuple[int, ...]
    draft: Draft = field(default_factory=lambda: Draft("", ""))
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    rewritten: bool = False
    context: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tail(self) -> int:
        """Tokens of the question that are read one by one; 0: it is prefilled."""
        return 0 if self.context is None else len(self.ids) - self.context

    def shortened(self, n: int) -> Sample:
        """The first `n` tokens; a question that is read one by one stays, and its context gives way."""
        context = min(len(self) - self.tail, max(n - self.tail, 1))
        kept = self.ids[:context] + self.ids[len(self) - self.tail :]
        return replace(self, ids=kept, context=None if self.context is None else context)

    @property
    def digest(self) -> str:
        """See `ids_digest`."""
        return ids_digest([self.ids])

    def prefix(self, image_id: int) -> int:
        """How many tokens come before the first one after the last image: what questions about it share."""
        return max((i + 1 for i, token in enumerate(self.ids) if token == image_id), default=0)


def ids_digest(rows: Sequence[Sequence[int]]) -> str:
    """16 hex digits over the token ids that a model really reads, template and image positions included (the pictures
    themselves are not).
    """
    return hashlib.sha256(json.dumps([list(row) for row in rows]).encode()).hexdigest()[:16]


def sample_of(view: View, draft: Draft) -> Sample:
    """Token ids (and pixels) of a draft. `UserError` for pictures on a model without eyes."""
    if not draft.images:
        return Sample(tuple(view.tokens.prompt_ids(draft.prompt, draft.answer_prefix)), draft)
    if view.vision is None:
        raise blind(view.name)
    text = view.tokens.prompt_text(draft.prompt, draft.answer_prefix, n_images=len(draft.images))
    special = view.tokens.adds_special(text)
    known = _expanded(view, draft, text, special)
    if known is not None:
        return Sample(known[0], draft, known[1])
    ids, tensors = view.vision.process(text, draft.images, special)
    if draft.image_key and len(draft.images) == 1:
        memory(view).keep(("pixels", draft.image_key), (ids.count(view.vision.image_token_id), tensors))
    return Sample(tuple(ids), draft, tensors)


def _expanded(view: View, draft: Draft, text: str, special: bool) -> tuple[tuple[int, ...], Any] | None:
    """Ids and tensors of a picture that was processed before, if its processing does not depend on the text."""
    assert view.vision is not None
    one = draft.image_key and len(draft.images) == 1 and not view.vision.reads_text
    kept = memory(view).get(("pixels", draft.image_key)) if one else None
    if kept is None:
        return None
    n, tensors = kept
    ids, image = view.tokens.text_ids(text, special), view.vision.image_token_id
    if ids.count(image) != 1:
        return None
    at = ids.index(image)
    return (*ids[:at], *[image] * n, *ids[at + 1 :]), tensors


@dataclass(eq=False)
class Inputs:
    """A batch, padded on the left where something is generated, on the right where texts are scored. ids and mask `[B, T]`
    (int64); `image` bool `[B, T]` or None; `positions` `[B, T]` or `[n, B, T]` (m-rope), None: the library's own; `scored`
    int64 `[B]`: the first column whose logits are scored, None: something is generated after the last one.
    """

    samples: tuple[Sample, ...]
    ids: Tensor
    mask: Tensor
    image: Tensor | None = None
    positions: Tensor | None = None
    scored: Tensor | None = None
    embed: Callable[[], Tensor] | None = None

    @property
    def tail(self) -> int:
        """Tokens at the end of every row that are read one by one."""
        tails = {s.tail for s in self.samples}
        if len(tails) > 1:
            raise ValueError("questions that are read one token at a time must be of one length in a batch")
        return tails.pop()

    @cached_property
    def embeds(self) -> Tensor | None:
        """`[B, T, d]` with the image features in place; None for text."""
        return self.embed() if self.embed is not None else None

    def prefill(self) -> dict[str, Any]:
        """Keywords of a forward over the whole prompt."""
        text = {"input_ids": self.ids} if self.embeds is None else {"inputs_embeds": self.embeds}
        padded = {} if self.positions is None and bool(self.mask.all()) else {"attention_mask": self.mask}
        return text | padded | ({} if self.positions is None else {"position_ids": self.positions})

    def further(self, n: int, step: int) -> dict[str, Any]:
        """Mask and positions of a forward over `n` more tokens, when `step` came after the prompt before them."""
        if self.positions is None and bool(self.mask.all()):
            return {}
        grown = torch.cat((self.mask, self.mask.new_ones(len(self.mask), step + n)), dim=1)
        last = self.mask.sum(1, keepdim=True) - 1 if self.positions is None else self.positions[..., -1:]
        return {
            "attention_mask": grown,
            "position_ids": last + torch.arange(step + 1, step + n + 1, device=last.device),
        }

    def changed(self, **fields: Any) -> Inputs:
        """The same batch with other values for some of its fields."""
        return replace(self, **fields)

    def repeat(self, n: int) -> Inputs:
        """Every sample `n` times (beams)."""
        if n == 1:
            return self

        def each(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.repeat_interleave(n, dim=x.dim() - 2)

        embeds = self.embeds
        return Inputs(
            samples=tuple(s for s in self.samples for _ in range(n)),
            ids=self.ids.repeat_interleave(n, 0), mask=self.mask.repeat_interleave(n, 0), image=each(self.image),
            positions=each(self.positions),
            embed=None if embeds is None else lambda: embeds.repeat_interleave(n, 0),
        )  # fmt: skip


def collate(view: View, samples: Sequence[Sample]) -> Inputs:
    """A batch of samples, padded on the left, with positions and (on demand) embeddings."""
    ids, mask = pad_left([s.ids for s in samples], view.pad_id, view.device)
    vision = view.vision
    if vision is None:
        return Inputs(tuple(samples), ids, mask)
    rows = [s.tensors or None for s in samples]
    seen = any(r is not None for r in rows)

    def embed() -> Tensor:
        return vision.embed(ids, [features(view, s).to(ids.device) if s.tensors else None for s in samples])

    return Inputs(
        tuple(samples), ids, mask,
        image=vision.image_mask(ids) & mask.bool() if seen else None,
        positions=vision.positions(ids, mask, rows),
        embed=embed if seen else None,
    )  # fmt: skip


def of_ids(ids: Tensor) -> Inputs:
    """Inputs of bare token ids `[B, T]`, nothing padded."""
    samples = tuple(Sample(tuple(row)) for row in ids.tolist())
    return Inputs(samples, ids, torch.ones_like(ids))


def features(view: View, sample: Sample) -> Tensor:
    """`[n, d]`: the sample's pictures encoded and projected; kept under the picture's key."""
    assert view.vision is not None
    if not sample.draft.image_key:
        return view.vision.features(sample.tensors)
    rest = {k: v.flatten().tolist() for k, v in sample.tensors.items() if k != view.vision.pixel_key}
    key = ("features", sample.draft.image_key, repr(sorted(rest.items())))
    found = memory(view).get(key)
    if found is None:
        found = view.vision.features(sample.tensors)
        memory(view).keep(key, found)
    return found


def without_image(view: View, sample: Sample) -> Sample:
    """The same text with the image positions cut out."""
    assert view.vision is not None
    ids = tuple(i for i in sample.ids if i != view.vision.image_token_id)
    return Sample(ids, replace(sample.draft, images=(), image_key=""))


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask `[B, n]` (int64), padded on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(r)) + list(r) for r in rows], device=device)
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=device)
    return ids, mask


class Memory:
    """Pixels and features by key, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._items: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any) -> Any:
        """What was kept, or None."""
        if key not in self._items:
            return None
        self._items.move_to_end(key)
        return self._items[key]

    def keep(self, key: Any, value: Any) -> None:
        """Keep a tensor, or a tuple or dict that holds some."""
        self.bytes += _bytes(value) - _bytes(self._items.pop(key, None))
        self._items[key] = value
        while self.bytes > self.limit and len(self._items) > 1:
            self.bytes -= _bytes(self._items.popitem(last=False)[1])

    def bytes_on(self, devices: Sequence[torch.device]) -> int:
        """Bytes that are kept on any of `devices`."""
        kinds = {torch.device(d).type for d in devices}
        return sum(_bytes(value, kinds) for value in self._items.values())

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()
        self.bytes = 0


_MEMORIES: WeakKeyDictionary[Any, Memory] = WeakKeyDictionary()


def memory(view: View) -> Memory:
    """What was kept for a model."""
    return _MEMORIES.setdefault(view, Memory(MEMORY))


def forget_pictures() -> None:
    """Clear what was kept for every model."""
    for kept in _MEMORIES.values():
        kept.clear()


def _bytes(value: Any, kinds: Collection[str] | None = None) -> int:
    """Bytes of the tensors in a value; `kinds`: of devices that count (None: all)."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size() if kinds is None or value.device.type in kinds else 0
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else ()
    return sum(_bytes(part, kinds) for part in parts)
