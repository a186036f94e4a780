"""Settings that must leave the model as it was: log-probabilities and greedy tokens under the method against dense.

Log-probabilities and not logits: a method may shift a row of logits by a constant, which changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.claims.checks.base import OfMethod, built
from harness.contracts.check import Finding

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.check import Bench
    from harness.contracts.method import Method


@dataclass(frozen=True, kw_only=True)
class Identity(OfMethod):
    """Largest difference of log-probabilities to dense over a prompt's last position and `steps` fed tokens; infinite if a
    greedily chosen token differs. `artifact`: what calibration would have found (lists of numbers).
    """

    model: str
    tokens: int = 96  # of the prompt, for a model without eyes
    steps: int = 4
    artifact: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def measure(self, bench: Bench) -> Finding:
        import torch

        method, dense = built(self.method), built({"_target_": "harness.contracts.method.Method"})
        artifact = {k: torch.tensor([float(x) for x in v]) for k, v in self.artifact.items()}
        size = (self.model, self.tokens, self.steps)
        base, base_ids = bench.once(("identity", size), lambda: self._answers(bench, dense, {}))
        ours, ids = self._answers(bench, method, artifact)
        if ids != base_ids:
            return Finding(math.inf, note="the greedy tokens differ")
        return Finding(float((ours - base).abs().max()))

    def _answers(self, bench: Bench, method: Method, artifact: Mapping[str, Tensor]) -> tuple[Tensor, Any]:
        """Log-probabilities `[steps + 1, V]` and the tokens of a greedy answer."""
        from harness.asking.generation import generate
        from harness.attention.attach import attach

        view, samples = bench.view(self.model), bench.samples(self.model, self.tokens)
        fed = bench.ids(self.model, self.steps)
        with attach(view, method, artifact=artifact) as attached:
            rows = forced(view, attached, samples, fed)
        with attach(view, method, artifact=artifact) as attached:
            ids = generate(view, samples, [self.steps], attached)[0].ids
        return rows, ids


@dataclass(frozen=True, kw_only=True)
class DensePrompt(OfMethod):
    """Largest difference to dense in the forward over the prompt, all positions; and that decoding does differ, for else
    nothing was shown.
    """

    model: str
    tokens: int = 256
    steps: int = 4

    def measure(self, bench: Bench) -> Finding:
        method, dense = built(self.method), built({"_target_": "harness.contracts.method.Method"})
        ours, after = self._logits(bench, method)
        base, base_after = self._logits(bench, dense)
        moved = float((after - base_after).abs().max())
        if moved == 0:
            return Finding(math.inf, note="the method changed nothing, so this shows nothing")
        return Finding(float((ours - base).abs().max()), note=f"decode differs by up to {moved:.2g}")

    def _logits(self, bench: Bench, method: Method) -> tuple[Tensor, Tensor]:
        import torch

        from harness.attention.attach import attach

        view = bench.view(self.model)
        ids = torch.tensor([bench.ids(self.model, self.tokens + self.steps)])
        with torch.no_grad(), attach(view, method) as attached:
            out = view.model(ids[:, : self.tokens], past_key_values=attached.new_cache(), use_cache=True)
            rows = []
            for i in range(self.tokens, self.tokens + self.steps):
                step = view.model(ids[:, i : i + 1], past_key_values=out.past_key_values, use_cache=True)
                rows.append(step.logits)
        return out.logits, torch.cat(rows, dim=1)


def forced(view: Any, attached: Any, samples: Any, fed: Sequence[int]) -> Tensor:
    """Log-probabilities `[len(fed) + 1, V]` of one request's next token: after the prompt, and after each fed token."""
    import torch

    from harness.models.inputs import collate

    rows = []
    with torch.no_grad():
        inputs = attached.begin(collate(view, samples))
        given, cache = inputs.prefill(), attached.new_cache()
        for i in range(len(fed) + 1):
            out = view.lm(**given, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            rows.append(out.logits[:, -1].float().log_softmax(-1))
            if i < len(fed):
                given = {"input_ids": inputs.ids.new_tensor([[fed[i]]])} | inputs.further(1, i)
    return torch.cat(rows)
