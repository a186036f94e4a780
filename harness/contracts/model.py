"""What a method may ask of a loaded model, whatever its family: the promises that `harness.models.view.View` keeps.

A method names this protocol and never a class of the engine, so that it depends on what is promised here and on nothing else.
Imports no torch. Shapes: n positions, H query heads, R rotated dimensions of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, device, dtype, nn


class Eyes(Protocol):
    """How a vision-language model sees."""

    image_processor: Any  # the library's

    @property
    def layout(self) -> str:
        """How image tokens lie on the picture: `Patches` (one grid), `Tiles` (the picture as a whole, then tiles of it),
        `Merged` (one grid, several patches to a token), `Queries` (no place).
        """
        ...

    def grid(self, tensors: Mapping[str, Tensor]) -> Sequence[tuple[int, int]] | None:
        """(rows, columns) of each picture of a sample; None where tokens have no place."""
        ...

    def maps_patches(self) -> bool:
        """Whether the tower's attention to its patches can be laid over the image tokens."""
        ...


class Model(Protocol):
    """A loaded model. `lm` is the part that generates, the library's own module; `config` its text decoder's."""

    lm: Any
    config: Any
    family: str  # `config.model_type`

    @property
    def vision(self) -> Eyes | None:
        """None: it reads text only."""
        ...

    @property
    def name(self) -> str:
        """Shown to people."""
        ...

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        ...

    @property
    def device(self) -> device:
        """Where token ids go."""
        ...

    @property
    def dtype(self) -> dtype:
        """Of the weights."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The library's."""
        ...

    @property
    def template(self) -> str:
        """`chat` or `none`: how prompts are rendered."""
        ...

    @property
    def lm_head(self) -> nn.Module:
        """The language head: width to vocabulary."""
        ...

    @property
    def rotary(self) -> Any:
        """The module that makes cos and sin, or None."""
        ...

    @property
    def final_softcap(self) -> float | None:
        """c of `c * tanh(z / c)` on the output logits."""
        ...

    def attention(self, i: int) -> Any:
        """The attention module of layer `i`."""
        ...

    def sliding_window(self, i: int) -> int | None:
        """Number of keys layer `i` may see, the query's own included; None: all of them."""
        ...

    def sinks(self, i: int) -> Tensor | None:
        """Learned sink logits `[H]` of layer `i`, or None."""
        ...

    def rope(self, i: int, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        """cos and sin of layer `i` at `positions` (int64 `[n]`), each `[n, R]`; None where a position is not one rotary number."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens."""
        ...
