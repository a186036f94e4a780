"""Which keys of a cache somebody else has kept: found by their bits, because a press returns tensors and no indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def columns(old: Sequence[Tensor], new: Sequence[Tensor]) -> Tensor | None:
    """For every row of `new` the column of the row of `old` with the same bits, int64 `[H, n']`; None if one has none.

    `old` and `new`: tensors `[1, H, n, D]` and `[1, H, n', D]` whose rows belong together (keys, values). Rows that are
    equal in all of them cannot be told apart, and need not be: each is used once, the first ones first.
    """
    import torch

    there, kept = _marks(old), _marks(new)
    there, order = there.sort(dim=-1, stable=True)
    kept, back = kept.sort(dim=-1, stable=True)
    twins = torch.arange(kept.shape[-1], device=kept.device) - torch.searchsorted(kept, kept)  # equal rows before it
    place = torch.searchsorted(there, kept) + twins
    inside = place < there.shape[-1]
    place = place.clamp(max=there.shape[-1] - 1)
    if not bool((inside & (there.gather(-1, place) == kept)).all()):
        return None
    return torch.empty_like(back).scatter_(-1, back, order.gather(-1, place))


def _marks(rows: Sequence[Tensor]) -> Tensor:
    """int64 `[H, n]`: a number for the bits of each row, with odd random weights. Two different rows share one with a
    chance of 2^-64, and of 2^-33 at worst (where they differ in signs alone).
    """
    import torch

    draw = torch.Generator().manual_seed(0)
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int32}  # wider words would lose their sign in the product
    marks = torch.zeros(rows[0].shape[1:3], dtype=torch.int64, device=rows[0].device)
    for x in rows:
        bits = x[0].contiguous().view(whole[x.element_size()])
        weights = (torch.randint(-(2**62), 2**62, bits.shape[-1:], generator=draw) * 2 + 1).to(x.device)
        for mark, head in zip(marks, bits, strict=True):  # a head at a time, because every number becomes 8 bytes wide
            mark += (head.long() * weights).sum(-1)
    return marks
