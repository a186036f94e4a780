"""Operations and bytes of a request, by formula: what the work is, whatever the machine takes for it.

Only what grows with the model is counted: matrix products (a multiplication and its addition are two operations) and
the bytes of weights, keys and values. Norms, rotations, softmax, activations and a method's own work (page summaries, a
second stream, choosing keys) are left out, so the bound made from these numbers is a lower one.

* Prefill, B prompts of n tokens: 2 x (weights of the layers) x B n + 2 x (weights of the head) x B, since logits are made
  for the last position only, + 4 D x (pairs read), over all layers and query heads: 2 D for q k^T and 2 D for the values.
  Bytes: the weights once, and the keys and values of the prompt written.
* Decode, one step of the batch: 2 x (weights of the layers and the head) x B + 4 D x (keys read by all heads). Bytes: the
  weights once, and 2 D x (keys read by each key head). Query heads that share a key head are taken to read the same keys,
  which is true of static patterns and the least that is possible for others.
* Pairs and keys are those that the pattern really reads: what the model shows (causal, sliding windows) times the density
  that was counted while the method ran (`harness/attention/usage.py`).
* A mixture of experts counts the share of its experts that one token uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.models.view import View


@dataclass(frozen=True)
class Dims:
    """The numbers of a model that the formulas need."""

    layer_weights: float  # weights of all layers that multiply one token (experts: the active share)
    layer_bytes: float
    head_weights: int  # of the language head
    head_bytes: int
    heads: int
    kv_heads: int
    head_dim: int
    element: int  # bytes of one key element
    windows: tuple[int | None, ...]  # for each layer: keys that a query may see; None: all


@dataclass(frozen=True)
class Work:
    """Of one request of a whole batch; `step` is one decode step of it."""

    flops_prefill: float
    bytes_prefill: float
    flops_step: float
    bytes_step: float


def dims(view: View) -> Dims:
    """Read off the live (or skeleton) model."""
    weights = nbytes = 0.0
    experts = getattr(view.config, "num_local_experts", None)
    active = getattr(view.config, "num_experts_per_tok", None)
    for layer in view.layers:
        for p in layer.parameters():
            share = active / experts if experts and active and p.dim() > 1 and p.shape[0] == experts else 1.0
            weights += share * p.numel() if p.dim() > 1 else 0
            nbytes += share * p.numel() * p.element_size()
    head = list(view.lm_head.parameters())
    return Dims(
        weights, nbytes, sum(p.numel() for p in head if p.dim() > 1), sum(p.numel() * p.element_size() for p in head),
        view.n_heads, view.n_kv_heads, view.head_dim, view.dtype.itemsize,
        tuple(view.sliding_window(i) for i in range(view.n_layers)),
    )  # fmt: skip


def prefill_pairs(n: int, window: int | None) -> int:
    """(query, key) pairs that a causal model shows over a prompt of `n` tokens: the sum of min(t, window).

    >>> prefill_pairs(4, None), prefill_pairs(4, 2)
    (10, 7)
    """
    w = n if window is None else min(n, window)
    return w * (w + 1) // 2 + (n - w) * w


def decode_keys(n: int, steps: int, window: int | None) -> float:
    """Keys that a query sees on average over the `steps` decode steps after `n` tokens, its own included.

    >>> decode_keys(4, 2, None), decode_keys(4, 2, 3)
    (5.5, 3.0)
    """
    return sum(min(n + i, window or n + i) for i in range(1, steps + 1)) / steps


def request(d: Dims, batch: int, n: int, steps: int, density_prefill: float = 1.0, density_decode: float = 1.0) -> Work:
    """Work of a whole model on `batch` prompts of `n` tokens and `steps` decode steps. Densities: shares of what the
    model shows that are read.
    """
    pairs = density_prefill * sum(prefill_pairs(n, w) for w in d.windows)
    keys = density_decode * sum(decode_keys(n, steps, w) for w in d.windows)
    per_pair, kv = 4 * d.head_dim * d.heads, 2 * d.head_dim * d.kv_heads * d.element
    return Work(
        flops_prefill=batch * (2 * d.layer_weights * n + 2 * d.head_weights + per_pair * pairs),
        bytes_prefill=d.layer_bytes + d.head_bytes + batch * kv * n * len(d.windows),
        flops_step=batch * (2 * (d.layer_weights + d.head_weights) + per_pair * keys),
        bytes_step=d.layer_bytes + d.head_bytes + batch * kv * keys,
    )


def attention(
    d: Dims, window: int | None, batch: int, n: int, steps: int, density_prefill: float = 1.0, density_decode: float = 1.0
) -> Work:  # fmt: skip
    """Work of one layer's attention function alone: queries, keys and values are read, the output is written."""
    pairs = density_prefill * prefill_pairs(n, window)
    keys = density_decode * decode_keys(n, steps, window)
    per_pair = 4 * d.head_dim * d.heads
    q, kv = 2 * d.head_dim * d.heads * d.element, 2 * d.head_dim * d.kv_heads * d.element  # q and out; k and v
    return Work(batch * per_pair * pairs, batch * (q + kv) * n, batch * per_pair * keys, batch * (q + kv * keys))
