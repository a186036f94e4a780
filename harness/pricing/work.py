"""Operations and bytes of batches, by the formulas of `harness/efficiency/formulas.py`, weights and attention apart.

* Prefill, B prompts of n tokens: 2 x (weights of the layers) x B n + 2 x (weights of the head) x B, and for attention
  4 D x (query heads) x (pairs read) in every layer.
* Decode: an answer of m tokens takes m - 1 forwards, since the prompt's own gives the first, and one more for each token
  of a question that is read after the prefill. Each: 2 x (all weights) x B, and 4 D x (query heads) x (keys read). A batch
  goes on until its last answer ends; rows that ended are computed on.
* Padding counts: it is computed. Bytes: the weights once for each forward, the keys and values that are read.

Two things cost time and are no part of that. Under a mask for padding the library computes the whole square of (query,
key) pairs, not the causal half (`masked`); and its cache grows by being copied, once in each decode step (`copied`).

Peak memory is the weights, the keys and values of the largest batch, and an estimate of what is alive besides, at the
widest place of a layer: the residual stream four times, the feed-forward block three times, queries, keys and values
once, the mask (one byte for each pair), the scores where attention is not fused, and three copies of the logits in float32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from harness.efficiency.formulas import prefill_pairs
from harness.pricing.batches import Batch
from harness.pricing.burden import Burden
from harness.pricing.model import Model


@dataclass(frozen=True)
class Work:
    """Of prefill or decode: operations with weights, operations in attention, bytes moved, layer calls made; and beside the
    formulas operations on pairs that a mask hides, and bytes copied.
    """

    weights: float = 0.0
    attention: float = 0.0
    moved: float = 0.0
    calls: float = 0.0
    masked: float = 0.0
    copied: float = 0.0

    @property
    def flops(self) -> float:
        return self.weights + self.attention

    def __add__(self, other: Work) -> Work:
        return Work(
            self.weights + other.weights, self.attention + other.attention, self.moved + other.moved,
            self.calls + other.calls, self.masked + other.masked, self.copied + other.copied,
        )  # fmt: skip

    def __mul__(self, by: float) -> Work:
        return Work(
            self.weights * by, self.attention * by, self.moved * by, self.calls * by, self.masked * by, self.copied * by
        )


def keys(n: int, steps: int, window: int | None) -> int:
    """Keys that one query after another sees in `steps` forwards after `n` tokens, its own included.

    >>> keys(4, 2, None), keys(4, 2, 3)
    (11, 6)
    """
    growing = steps if window is None else min(max(window - n, 0), steps)
    return growing * n + growing * (growing + 1) // 2 + (steps - growing) * (window or 0)


def prefill(m: Model, b: Batch, burden: Burden, scored: bool = False) -> Work:
    """`scored`: the head is applied at every position (likelihood tasks)."""
    rows, n = b.size * b.times * burden.streams, burden.split(b.prompt, b.new)[0]
    seen, per_pair = pairs_read(m, burden, n), 4.0 * m.head_dim * m.heads * rows
    hidden = n**2 * m.layers - seen if b.padded and burden.method is None else 0.0
    return Work(
        weights=2.0 * rows * (m.layer_weights * n + m.head_weights * (n if scored else 1)),
        attention=per_pair * seen,
        moved=b.times * burden.streams * m.element * (m.layer_weights + m.head_weights)
        + rows * m.kv_bytes * n * m.layers,
        calls=float(b.times * burden.streams * m.layers),
        masked=per_pair * hidden,
    )


def decode(m: Model, b: Batch, burden: Burden) -> Work:
    """All forwards after the prefills, those of questions that are read token by token among them."""
    n, steps = burden.split(b.prompt, b.new)
    seen, held = (keys_read(m, how, n, steps) for how in (burden, Burden()))
    rows = b.size * b.times * burden.streams * burden.beams
    forwards = b.times * burden.streams * steps
    return Work(
        weights=2.0 * rows * steps * (m.layer_weights + m.head_weights),
        attention=4.0 * m.head_dim * m.heads * rows * seen,
        moved=forwards * m.element * (m.layer_weights + m.head_weights) + rows * m.kv_bytes * seen,
        calls=float(forwards * m.layers),
        copied=2.0 * rows * m.kv_bytes * held,
    )


@lru_cache(maxsize=1 << 16)
def pairs_read(m: Model, burden: Burden, n: int) -> float:
    """Pairs that one query head reads over a prompt of `n` tokens, in all layers together."""
    share, _ = burden.density(n)
    return sum(count * factor * prefill_pairs(n, w) for w, factor, count in _kinds(m, burden, share))


@lru_cache(maxsize=1 << 16)
def keys_read(m: Model, burden: Burden, n: int, steps: int) -> float:
    """Keys that one query head reads in the `steps` forwards after it."""
    _, share = burden.density(n + steps)
    return sum(count * factor * keys(n, steps, w) for w, factor, count in _kinds(m, burden, share))


def _kinds(m: Model, burden: Burden, share: float) -> list[tuple[int | None, float, int]]:
    """(window, share that is read, number of layers) of each kind of layer."""
    if share == 1.0:
        return [(window, 1.0, count) for window, count in Counter(m.windows).items()]
    kinds = Counter((w, 1.0 if i in burden.dense_layers else share) for i, w in enumerate(m.windows))
    return [(window, factor, count) for (window, factor), count in kinds.items()]


@dataclass(frozen=True)
class Memory:
    """Bytes at the worst moment. `process`: what the libraries take before any model is there (on a CPU)."""

    weights: float = 0.0
    cache: float = 0.0
    activations: float = 0.0
    process: float = 0.0

    @property
    def total(self) -> float:
        return self.weights + self.cache + self.activations + self.process


LIBRARIES = 450 * 2**20  # resident memory of a process that has imported torch and transformers


def memory(m: Model, batches: Iterable[Batch], burden: Burden, side_by_side: int = 1, scored: bool = False) -> Memory:
    """`side_by_side`: methods that hold a cache of the same batch at one time."""
    cache = activations = 0.0
    for b in batches:
        held = sum(min(b.prompt + b.limit, w or b.prompt + b.limit) for w in m.windows)
        rows = b.size * burden.streams * burden.beams
        cache = max(cache, rows * m.kv_bytes * held * side_by_side)
        activations = max(activations, _alive(m, b, scored))
    return Memory(m.weight_bytes, cache, activations, LIBRARIES if m.device == "cpu" else 0.0)


def _alive(m: Model, b: Batch, scored: bool) -> float:
    tokens = b.size * b.prompt
    row = 4 * m.width + 3 * m.inner + m.head_dim * (m.heads + 2 * m.kv_heads)
    scores = 0 if m.fused else m.heads * (m.element + 4)
    logits = b.size * (b.prompt if scored else 1) * m.vocabulary * 4 * (1 if scored else 3)
    return tokens * (row * m.element + b.prompt * (1 + scores)) + logits
