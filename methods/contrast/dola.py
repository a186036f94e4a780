"""DoLa (Chuang et al. 2024, arXiv 2309.03883): contrast the last layer with the earlier one that differs most from it.

The hidden state h_k (k = 0: embeddings, k: output of layer k - 1), read by the language head without the final norm,
gives q_k; N is the last layer, whose q_N are the model's own logits. Among candidates C, with M = (p_N + p_k) / 2,

    k* = argmax_{k in C} JS(p_N, p_k),   f = log_softmax(q_N), -inf below max f + log(relative_top),
    out = f - log_softmax(q_k*).

`mode: release` computes the two halves of JS as KL(M || p) (reversed arguments in its code); `paper` as KL(p || M).
Candidates of 32-layer models: 0, 2, ..., 14 (`bucket: low`, long answers) or 16, 18, ..., 30 (`high`, short facts),
of 40: 0..18 or 20..38. So: every second layer of the lower or upper half; every layer in models of fewer than 16 (ours).
relative_top 0.1; the release adds a repetition penalty of 1.2 in open generation, which belongs to the decoding.

Ours: k* is chosen per sample; the beams of a sample share it (`share: sample`, the release at batch size 1) or choose
for themselves (`row`). One k* for a whole batch, as in the release, would make an answer depend on its neighbours.
There is no setting that equals dense: a contrast with q_N itself is 0 on every token that is kept. Cost: one projection
to the vocabulary per candidate and token; until the language head runs, the candidates' hidden states stay alive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.contracts.call import Call
from harness.contracts.method import Method
from harness.errors import UserError
from methods.contrast.two_stream import plausible, refuse_soft_cap

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

COARSE = 16  # from this depth on every second layer is a candidate


@dataclass(frozen=True, kw_only=True)
class DoLa(Method):
    """Decoding by contrasting layers."""

    name = "dola"
    title = "DoLa: contrast with an earlier layer"
    paper = "2309.03883"
    budget_unit = "candidate layers"
    prefix_safe = True
    options = {
        "bucket": "candidates: low (long answers) or high (short facts) half of the layers",
        "candidates": "indices of hidden states, 0 = embeddings, in place of a bucket; null: the bucket",
        "relative_top": "tokens below this share of the largest probability are ruled out; 0 keeps all",
        "share": "sample: the beams of a sample share the layer; row: each beam has its own",
        "mode": "which halves of the divergence are summed; release: KL(M || p), paper: KL(p || M)",
    }

    bucket: Literal["low", "high"] = "low"
    candidates: tuple[int, ...] | None = None
    relative_top: float = 0.1
    share: Literal["sample", "row"] = "sample"
    mode: Literal["release", "paper"] = "release"

    def validate(self) -> None:
        self.require(self.bucket in ("low", "high"), "bucket", "it is 'low' or 'high'")
        named = self.candidates
        self.require(
            named is None or (len(named) > 0 and min(named) >= 0), "candidates", "it names hidden states from 0"
        )
        self.require(0 <= self.relative_top <= 1, "relative_top", "it is a share of the largest probability, 0 to 1")
        self.require(self.share in ("sample", "row"), "share", "it is 'sample' or 'row'")
        self.require(self.mode in ("release", "paper"), "mode", "it is 'release' or 'paper'")

    def check(self, view: Model) -> None:
        refuse_soft_cap(self, view)
        if self.candidates is not None and max(self.candidates) > view.n_layers:
            raise UserError(
                f"method.dola.candidates names hidden state {max(self.candidates)}, "
                f"but the model has {view.n_layers} layers."
            )

    def layers(self, view: Model) -> list[int]:
        return [view.n_layers]

    def chosen_from(self, n_layers: int) -> tuple[int, ...]:
        """The candidates in a model of `n_layers`."""
        return self.candidates or bucket(n_layers, self.bucket)

    def layer_in(self, ctx: Call, x: Tensor) -> None:
        if ctx.layer == 0:
            self._keep(ctx, 0, x)

    def layer_out(self, ctx: Call, x: Tensor) -> None:
        self._keep(ctx, ctx.layer + 1, x)

    def _keep(self, ctx: Call, k: int, x: Tensor) -> None:
        if k < ctx.view.n_layers and k in self.chosen_from(ctx.view.n_layers):
            ctx.store["hidden", k] = x  # all rows: which of them the head is asked for shows only there

    def logits(self, ctx: Call, z: Tensor) -> Tensor | None:
        import torch

        last = z.float()
        layers = self.chosen_from(ctx.view.n_layers)
        differences = torch.stack([divergence(last, self._early(ctx, k, z), self.mode) for k in layers])  # [C, rows, n]
        if self.share == "sample" and ctx.request is not None:
            n_samples = len(ctx.request.drafts)
            differences = differences.unflatten(1, (n_samples, -1))
            differences = differences.mean(2, keepdim=True).expand_as(differences).flatten(1, 2)
        best = differences.argmax(0)  # [rows, n]
        base = torch.zeros_like(last)
        for i, k in enumerate(layers):
            rows = best == i
            if bool(rows.any()):
                base[rows] = self._early(ctx, k, z)[rows]
        out = contrast_layers(last, base, self.relative_top)
        ctx.count("layer", torch.tensor(layers, device=best.device)[best].float())
        ctx.count("cut", out.isinf().float().mean(-1))
        ctx.count("changed", out.argmax(-1) != last.argmax(-1))
        return out

    def _early(self, ctx: Call, k: int, z: Tensor) -> Tensor:
        """q_k `[rows, n, V]` in float32."""
        from torch.nn.functional import linear

        if k == ctx.view.n_layers:
            return z.float()
        head: Any = ctx.view.lm_head
        h = ctx.store["hidden", k][:, -z.shape[1] :].to(head.weight)
        return linear(h, head.weight, getattr(head, "bias", None)).float()


def bucket(n_layers: int, which: str) -> tuple[int, ...]:
    """Candidates of the lower or upper half."""
    step = 2 if n_layers >= COARSE else 1
    half = n_layers // 2
    return tuple(range(0, half, step) if which == "low" else range(half + half % step, n_layers, step)) or (0,)


def divergence(q_last: Tensor, q_early: Tensor, mode: str) -> Tensor:
    """Jensen-Shannon divergence of the softmaxes of two `[..., V]`, in nats, or the release's reversed form of it."""
    log_p, log_q = q_last.log_softmax(-1), q_early.log_softmax(-1)
    p, q = log_p.exp(), log_q.exp()
    m = (p + q) / 2
    log_m = m.clamp(min=1e-38).log()
    if mode == "release":
        halves = m * (log_m - log_p) + m * (log_m - log_q)
    else:
        halves = p * (log_p - log_m) + q * (log_q - log_m)
    return 0.5 * halves.sum(-1)


def contrast_layers(q_last: Tensor, q_early: Tensor, relative_top: float) -> Tensor:
    """log_softmax(q_last) - log_softmax(q_early), -inf where the first is not plausible."""
    f = q_last.log_softmax(-1)
    return (f - q_early.log_softmax(-1)).masked_fill(~plausible(f, relative_top), -math.inf)
