"""What all static block patterns share: a block predicate that depends on nothing but the two block indices.

A pattern defines `keep(h, a, c)` with operators that work on whole numbers and on tensors alike, so that the same line
draws the mask, counts its pairs and tells whether a context is too short for it to matter.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from harness.contracts.call import Blocks, Call
from harness.contracts.method import Method
from harness.contracts.options import Within

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

BLOCK = "tokens in one block; blocks are aligned to the first real token"
FULL = "layers that stay dense (hybrid models)"


@dataclass(frozen=True, kw_only=True)
class StaticPattern(Method):
    """Base of the static patterns: one mask for all heads, in prefill and in decode.

    The full KV cache is kept (dropped blocks may be needed again), so these methods save reading, not memory. All
    quality claims about such patterns are for models trained with them; attached to another model this is the
    training-free variant.
    """

    budget_unit = "blocks read by one query"
    prefix_safe = True

    block_size: Annotated[int, Within(1, 65536)] = 256
    full_layers: tuple[int, ...] = ()

    @abstractmethod
    def keep(self, h: Any, a: Any, c: Any) -> Any:
        """True where query block `a` reads key block `c` (c <= a)."""

    def validate(self) -> None:
        self.require(self.block_size >= 1, "block_size", "a block holds at least one token")
        self.require(all(i >= 0 for i in self.full_layers), "full_layers", "layers are counted from 0")

    def layers(self, view: Model) -> list[int]:
        return [i for i in range(view.n_layers) if i not in set(self.full_layers)]

    def pattern(self, ctx: Call, q: Tensor, k: Tensor) -> Blocks | None:
        return None if ctx.layer in self.full_layers else self.blocks()

    def blocks(self) -> Blocks:
        """The pattern as the harness takes it. Equal methods give equal blocks, so lowered forms are shared between
        layers.
        """
        return Blocks(self.block_size, self.keep)

    def idle(self, n: int) -> str:
        if self._leaves_out(n):
            return ""
        helps = {key: replace(self, **change)._leaves_out(n) for key, change in self._smaller(n).items()}
        rows = -(-n // self.block_size)
        return f"the pattern reads every one of the {rows} blocks of a context of {n} tokens; {self.lower(**helps)}"

    def _smaller(self, n: int) -> dict[str, dict[str, Any]]:
        """Options that may be too large for a context of `n` tokens -> what each is when it is small."""
        # not 1 at once: the number of pairs grows with its square
        return self._lowered(block_size=max(1, min(self.block_size // 2, n // 64)))

    def _lowered(self, **least: int) -> dict[str, dict[str, Any]]:
        """Those of the options that are larger than what is given, one by one."""
        return {key: {key: value} for key, value in least.items() if getattr(self, key) > value}

    def _leaves_out(self, n: int) -> bool:
        """Whether some block of a context of `n` tokens is not read."""
        rows = -(-n // self.block_size)
        return any(not self.keep(None, a, c) for a in range(rows) for c in range(a))

    def receptive_field(self, n: int, n_layers: int) -> float | None:
        """Follow the links down from the last block, one layer at a time (blocks are counted whole)."""
        if any(layer < n_layers for layer in self.full_layers):
            return 1.0
        rows = -(-n // self.block_size)
        seen = new = {rows - 1}
        for _ in range(n_layers):
            new = {c for a in new for c in range(a) if self.keep(None, a, c)} - seen
            seen = seen | new
        return len(seen) / rows
