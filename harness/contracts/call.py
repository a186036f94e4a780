"""What a method is given while it is at work: the request, the layer call, and the pattern that it may state.

Shapes: B batch, H query heads, H_kv key heads, n_q query rows of this forward, n_k keys (the cache included), D head
size. A *position* is the absolute column of a token in its row of the batch, padding included; logical position =
position - n_pad.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.contracts.inputs import Draft, Inputs
from harness.contracts.model import Model

if TYPE_CHECKING:
    from torch import Tensor

Phase = Literal["prefill", "decode"]


class Ask(Protocol):
    """Plain generation for `Method.transform`: the dense model's answer to a draft (the method that asks is not at work),
    under `probe` (a method that watches) if given.
    """

    def __call__(self, draft: Draft, max_new_tokens: int, probe: Any = None) -> str: ...


class Stream(Protocol):
    """A second stream beside the one that is generated: other inputs, the same new tokens, its own cache (beams
    reorder it with the main one).
    """

    def next(self, ctx: Call) -> Tensor:
        """Logits `[rows, V]` (float32) of this stream for the position whose logits the main stream has just made."""
        ...


class Request(Protocol):
    """One batch about to be generated, as hooks see it. Nothing that a method runs here triggers its own hooks."""

    state: dict[Any, Any]  # the method's own for this request; tensors batch first, one row for each sample
    artifact: dict[str, Tensor]  # what the method's lesson learned; empty if it has none

    @property
    def view(self) -> Model:
        """The model that answers."""
        ...

    @property
    def inputs(self) -> Inputs:
        """What it reads, padded on the left."""
        ...

    @property
    def drafts(self) -> Sequence[Draft]:
        """What the batch was made of."""
        ...

    def without_image(self) -> Inputs:
        """The same prompts with the image positions cut out."""
        ...

    def with_pixels(self, change: Callable[[Draft, Tensor], Tensor]) -> Inputs:
        """The same prompts with `change(draft, pixel_values)` in place of each sample's pixel values (normalised)."""
        ...

    def with_drafts(self, change: Callable[[Draft], Draft]) -> Inputs:
        """Inputs made anew from changed drafts (another prompt, other pictures)."""
        ...

    def forward(self, inputs: Inputs | Tensor, cache: Any = None, under: Any = None, **kwargs: Any) -> Any:
        """One forward; `.logits` `[B, 1, V]` of the last position, `.past_key_values`. A tensor `[B, n]` holds further
        tokens for `cache` (`kwargs`: their mask and positions, `Inputs.further`). `under`: a method (a probe, a patch)
        that is attached meanwhile; None: dense.
        """
        ...

    def count(self, name: str, value: Any) -> None:
        """Report a number, as `Call.count` does."""
        ...

    def stream(self, inputs: Inputs) -> Stream:
        """A second stream that begins with `inputs` (prefilled at once)."""
        ...

    def vision_attention(self, layers: Sequence[int]) -> list[Tensor]:
        """Attention of the vision tower, softmaxed: for each of `layers` (negative from the end) `[B, H, n, n]`, the CLS
        row and column first. `UserError` if the tower has none.
        """
        ...


@dataclass(frozen=True)
class Blocks:
    """A block pattern, stated once and lowered to FlexAttention, gather + SDPA, or a dense mask.

    `keep(h, a, c)` says whether query block `a` reads key block `c` (blocks of `size` logical positions). It gets index
    tensors that broadcast and returns a bool tensor; `h` is None unless `per_head`, then it is an index of query heads.
    Only c <= a matters unless `causal` is False, then `keep` (and `token`) is asked in both directions. The diagonal block is
    always read, and the model's own mask (causal, sliding, padding) is applied on top, so a model that looks back alone goes on
    doing so. `token(i, j)` narrows the kept blocks by logical token positions; a query always sees itself.
    """

    size: int
    keep: Callable[[Any, Any, Any], Any]
    token: Callable[[Any, Any], Any] | None = None
    per_head: bool = False
    causal: bool = True


@dataclass(slots=True)
class Call:
    """What a hook is told about the layer call it is part of. It holds while the hook runs: the next layer call of the forward
    is written into the same record.
    """

    view: Model
    layer: int
    phase: Phase  # decode: one query row on a cache that is not empty
    q_offset: int  # position of the first query row: the TRUE number of tokens before it, dropped ones included
    n_pad: Tensor  # int64 [B]: padding tokens on the left of each sample
    scaling: float = 1.0  # softmax(scaling * q k^T)
    positions: Tensor | None = None  # int64 [B | 1, H_kv | 1, n_k]: true position of every key
    # query rows (and keys: int64 [B | 1, H_kv | 1, n], their columns; all without) -> bool [B, H_kv | 1, rows, n]: whether the
    # model itself shows them. Of the rows that the hook was given, where these are not all
    visible: Callable[..., Tensor] | None = None
    q: Tensor | None = None  # [B, H, n_q, D]: the queries of this call (edit_cache only)
    request: Request | None = None  # None where nothing was announced (a bare forward)
    step: int = 0  # tokens read one by one before this forward (generated, or of the question): 0 in the prefill
    tokens: Tensor | None = None  # int64 [B, n_q]: ids of this forward
    image: Tensor | None = None  # bool [B, n_k]: keys that are image tokens; None: the request has no image
    # Report a number; a sample's mean stands in its record. A tensor has the rows of the forward first, so that each sample
    # gets its own (NaN: no value here); a plain number holds for every sample of the batch. What `scores` and `probs`
    # report as [B, H, R, ..] counts for the rows that are a sample's own.
    count: Callable[[str, Any], None] = lambda name, value: None
    # `once(key, make)` is `make()`, computed once for all methods that share this prefill and name the same `key`: what
    # a compressor scores by, without what it cuts by. Nobody may write into the result.
    once: Callable[[Hashable, Callable[[], Any]], Any] = lambda key, make: make()
    store: dict[Any, Any] = field(default_factory=dict)  # lives for one forward, shared by all layers
    # One for each layer, lives with the cache; tensors batch first. A tensor with one entry (dimension 2) for every m
    # tokens stands under a key (name, m), so that a sample's share of its bytes can be told from the batch's.
    state: dict[Any, Any] = field(default_factory=dict)

    def rows(self, x: Tensor, n: int) -> Tensor:
        """A tensor of the request (one row for each sample) for the `n` rows of this forward: beams repeat a sample."""
        return x if x.shape[0] == n else x.repeat_interleave(n // x.shape[0], dim=0)
