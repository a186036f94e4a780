"""What a model is given to read, as methods see it: a draft (text and pictures), what the processor made of it, a batch of these.

`harness.models.inputs` makes them. Imports no torch. Shapes: B batch, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from harness.contracts.tokens import Prompt

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Draft:
    """One request before the processor: text and pictures (`PIL.Image.Image`, RGB). `id` is the example's."""

    id: str
    prompt: Prompt
    images: tuple[Any, ...] = ()
    answer_prefix: str = ""
    image_key: str = ""  # equal keys promise equal pictures, so that they are encoded once; empty: no promise
    question: str = ""  # the example's: the end of the prompt from where the question begins; empty: not declared


class Sample(Protocol):
    """One request as the model reads it."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Token ids, image positions included."""
        ...

    @property
    def draft(self) -> Draft:
        """What it was made of."""
        ...

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """What the processor made of its pictures; empty for text."""
        ...

    def __len__(self) -> int:
        """Number of tokens."""
        ...


class Inputs(Protocol):
    """A batch, padded on the left where something is generated."""

    @property
    def samples(self) -> Sequence[Sample]:
        """One for each row."""
        ...

    @property
    def ids(self) -> Tensor:
        """int64 `[B, T]`."""
        ...

    @property
    def mask(self) -> Tensor:
        """int64 `[B, T]`: 0 for padding."""
        ...

    @property
    def image(self) -> Tensor | None:
        """bool `[B, T]`: image tokens; None for text."""
        ...

    @property
    def positions(self) -> Tensor | None:
        """int64 `[B, T]`, or `[n, B, T]` where a token has several coordinates; None: the library's own."""
        ...

    @property
    def scored(self) -> Tensor | None:
        """int64 `[B]`: the first column whose logits are scored; None: something is generated after the last one."""
        ...

    def prefill(self) -> dict[str, Any]:
        """Keywords of a forward over the whole prompt."""
        ...

    def further(self, n: int, step: int) -> dict[str, Any]:
        """Mask and positions of a forward over `n` more tokens, when `step` came after the prompt before them."""
        ...

    def repeat(self, n: int) -> Inputs:
        """Every sample `n` times (beams)."""
        ...

    def changed(self, **fields: Any) -> Inputs:
        """The same batch with other values for some of its fields."""
        ...
