"""The edit of IRI, and of VISTA's paper: a direction is added to an activation, and its length stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def moved(x: Tensor, v: Tensor, strength: float) -> Tensor:
    """x `[..., d]` plus strength * v, rescaled to the norm of x."""
    from torch.nn.functional import normalize

    return x.norm(dim=-1, keepdim=True) * normalize(x + strength * v, dim=-1)
