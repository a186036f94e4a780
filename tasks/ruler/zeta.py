"""How often a coded word of each rank appears."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=8)
def _norm(alpha: float) -> float:
    from scipy.special import zeta

    return float(zeta(alpha))


@lru_cache(maxsize=4096)
def counts(ranks: int, total: int, alpha: float) -> tuple[int, ...]:
    """floor(total * rank^-alpha / zeta(alpha)) for ranks 1, 2, ..., in floating point as the reference computes it;
    never negative."""
    import numpy as np

    shares = total * (np.arange(1, ranks + 1) ** -float(alpha)) / _norm(float(alpha))
    return tuple(max(0, n) for n in shares.astype(int).tolist())
