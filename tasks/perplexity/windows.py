"""Which tokens of a document each window sees, and which of them it predicts: every token but the first, once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Document tokens `begin..end`; those from `first` on are predicted, those before are context."""

    begin: int
    first: int
    end: int

    @property
    def n_scored(self) -> int:
        return self.end - self.first


def windows(n_tokens: int, window: int, stride: int, n_bos: int = 0) -> Iterator[Window]:
    """Windows of at most `window` ids, the `n_bos` ids in front included, that move on by `stride` predicted tokens.

    The first window predicts all it holds but the first token of the document. Each later one begins `stride` tokens
    further on and predicts what the one before did not hold; the last may be short. Something must stand before the
    first prediction: the start token, or else one token of the document, which is why `stride == window` advances by
    `window - 1` without one.
    """
    room = window - n_bos
    step = min(stride, room if n_bos else room - 1)
    end = min(n_tokens, room)
    if end > 1:
        yield Window(0, 1, end)
    while end < n_tokens:
        first, end = end, min(end + step, n_tokens)
        yield Window(first - (room - step), first, end)


def bucket_edges(buckets: int | tuple[int, ...], window: int) -> tuple[int, ...]:
    """Edges `0, ..., window` from a number of equal buckets, or from inner edges."""
    if isinstance(buckets, int):
        return tuple(sorted({round(i * window / buckets) for i in range(buckets + 1)}))
    return tuple(sorted({0, *buckets, window}))
