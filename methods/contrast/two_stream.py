"""Contrast with a second stream, the engine of VCD, ICD, VDD and M3ID, and their formulas as functions on logits.

A second stream is fed the same new tokens behind another prompt (a noisy picture, none, a disturbing instruction) and
keeps its own cache. Where it agrees with the main stream, language alone made the token; the difference is what the
picture adds. A method states the other prompts (`negatives`) and how two rows of logits become one (`combine`). The
work is done at the language head, so greedy search, sampling and beams see the same logits (a logits processor would
shift whole beams). Cost: one more prefill and one more forward per token for each stream.

Shapes: `[rows, V]`, float32; rows are samples, or beams of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.contracts.call import Call, Request
from harness.contracts.method import Method
from harness.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.inputs import Inputs
    from harness.contracts.model import Model

EXPONENT = 80.0  # e^80 times a difference of log-probabilities is still a float32


@dataclass(frozen=True, kw_only=True)
class TwoStream(Method):
    """Base class: `negatives` and `combine` are the method's own."""

    needs = frozenset({"images", "second_stream"})
    prefix_safe = True  # the main stream's cache is the dense one

    def negatives(self, request: Request) -> tuple[Inputs, ...]:
        """What the other streams begin with; several are averaged."""
        raise NotImplementedError

    def combine(self, ctx: Call, main: Tensor, other: Tensor) -> Tensor:
        """The logits that are used, from those of the main stream and of the other. -inf rules a token out."""
        raise NotImplementedError

    def check(self, view: Model) -> None:
        refuse_soft_cap(self, view)

    def layers(self, view: Model) -> list[int]:
        return [view.n_layers]

    def begin(self, request: Request) -> None:
        request.state["streams"] = [request.stream(inputs) for inputs in self.negatives(request)]

    def logits(self, ctx: Call, z: Tensor) -> Tensor | None:
        import torch

        if ctx.request is None:
            raise UserError(
                f"Method '{self.name}' contrasts two streams, so it works in generation only; "
                "this is a single forward that nobody announced."
            )
        others = [stream.next(ctx) for stream in ctx.request.state["streams"]]
        main, other = z[:, -1].float(), torch.stack(others).mean(0)
        out = self.combine(ctx, main, other)
        report(ctx, main, other, out)
        return torch.cat((z[:, :-1].float(), out[:, None]), dim=1)


@dataclass(frozen=True, kw_only=True)
class Contrast(TwoStream):
    """(1 + alpha) l - alpha l', and -inf where the main stream's own logits are below max l + log beta (VCD, ICD, VDD)."""

    budget_unit = "strength of the contrast (alpha)"
    options = {
        "alpha": "strength: (1 + alpha) l - alpha l'; 0 contrasts nothing",
        "beta": "tokens below beta times the largest probability are ruled out; 0 keeps all",
    }

    alpha: float = 1.0
    beta: float = 0.1

    def validate(self) -> None:
        self.require(self.alpha >= 0, "alpha", "it cannot be negative")
        self.require(0 <= self.beta <= 1, "beta", "it is a share of the largest probability, 0 to 1")

    def combine(self, ctx: Call, main: Tensor, other: Tensor) -> Tensor:
        return cut(contrast(main, other, self.alpha), main, self.beta)


def refuse_soft_cap(method: Method, view: Model) -> None:
    """`UserError` if the model bends its logits after the language head, behind the method's back."""
    if view.final_softcap is not None:
        raise UserError(
            f"Method '{method.name}' cannot serve this model: its logits are soft-capped (c = {view.final_softcap}) "
            "after the language head, where the method works."
        )


def report(ctx: Call, main: Tensor, other: Tensor, out: Tensor) -> None:
    """Count what the contrast did: tokens cut, tokens whose first rank changed, KL(main || other) in nats."""
    log_p, log_q = main.log_softmax(-1), other.log_softmax(-1)
    ctx.count("cut", out.isinf().float().mean(-1))
    ctx.count("changed", out.argmax(-1) != main.argmax(-1))
    ctx.count("divergence", (log_p.exp() * (log_p - log_q)).sum(-1))


# ---------------------------------------------------------------------------------------------------------- formulas


def plausible(logits: Tensor, beta: float) -> Tensor:
    """bool: tokens with p >= beta max p, by the logits l >= max l + log beta. 0 keeps all."""
    import torch

    if beta <= 0:
        return torch.ones_like(logits, dtype=torch.bool)
    return logits >= logits.amax(-1, keepdim=True) + math.log(beta)


def cut(out: Tensor, logits: Tensor, beta: float) -> Tensor:
    """`out` with -inf where `logits` are not plausible."""
    return out.masked_fill(~plausible(logits, beta), -math.inf) if beta > 0 else out


def contrast(main: Tensor, other: Tensor, alpha: float) -> Tensor:
    """(1 + alpha) main - alpha other (VCD, ICD, VDD)."""
    return (1 + alpha) * main - alpha * other


def image_gain(c: Tensor, u: Tensor, t: int, lam: float) -> Tensor:
    """M3ID: c + (1 - g) / g (c - u), g = exp(-lam t), of log-probabilities; t = 1 at the first new token.

    The exponent ends where float32 would: from there on the second term decides alone.
    """
    return c + math.expm1(min(lam * t, EXPONENT)) * (c - u)  # (1 - g) / g = exp(lam t) - 1


def pai_guidance(c: Tensor, u: Tensor, gamma: float, cut: float) -> Tensor:
    """PAI, second stage: gamma (c - u) + u, of log-probabilities; -inf where c < max c + log cut (0 keeps all)."""
    import torch

    out = gamma * (c - u) + u
    return torch.where(plausible(c, cut), out, -math.inf)
