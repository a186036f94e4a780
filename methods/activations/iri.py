"""IRI ("Causal tracing of object representations", arXiv 2511.05923): inject what some layers know into later ones.

`fcct` measures once per model, on yes/no questions about objects that are there, how much of the answer each layer's
attention output a_l and MLP output m_l at the last token restores (RR, saved as the model's artifact). At every
forward, for the last position only and for attention and MLP separately, each layer l of the `targets` layers with the
highest RR gets

    a~_l = a_l + lambda sum_{k in sources, k < l} RR_k a_k,   rescaled to |a_l|,

where `sources` are the few layers with the highest RR and a_k their outputs in the same forward, before their own
injection.

Published: 3 sources, 10 targets; (attn, mlp) = (0.26, 0.16) for LLaVA-1.5-7B, (0.15, 0.08) for LLaVA-NeXT and (0.20,
0.10) for Qwen-VL-Chat. The curves were not published, so calibration cannot be left out; the paper takes 500 COCO
images (`calibrate_on` with source: files).

Ours: a model with fewer layers than `targets` has all of them as targets; each decoded token counts as the last; the
calibration's questions end in VCD's "Please answer this question with one word." (paper: "... (Yes or No).") and its
noise stands in `fcct`. If no source lies below a target the run fails, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.contracts.call import Call, Request
from harness.contracts.lesson import Calibration
from harness.contracts.method import Method
from harness.errors import UserError
from methods.activations.steering import moved
from methods.probes.fcct import FCCT

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model


QUESTIONS = {
    "_target_": "tasks.pope.Pope",
    "source": "scenes",
    "scenes": 60,
    "seed": 77,
    "suffix": "one_word",
}


@dataclass(frozen=True, kw_only=True)
class Injection(Method):
    """Intermediate representation injection."""

    name = "iri"
    title = "IRI: intermediate representation injection"
    paper = "2511.05923"
    needs = frozenset({"images"})
    budget_unit = "strength of the injection"
    options = {
        "attn": "lambda of the attention outputs; 0 leaves them alone",
        "mlp": "lambda of the MLP outputs; 0 leaves them alone",
        "sources": "layers with the highest recovery rate that are injected",
        "targets": "layers with the highest recovery rate that receive; all of them if there are fewer",
        "questions": "most questions that the calibration uses",
        "noise_step": "diffusion step of the calibration's noise, of 1000",
        "calibrate_on": "task whose questions about present objects are traced, as an option of the task group",
        "artifact": "file with recovery rates that were measured before; null: found or made under results/learned",
    }

    attn: float = 0.26
    mlp: float = 0.16
    sources: int = 3
    targets: int = 10
    questions: int = 100
    noise_step: int = 900
    calibrate_on: dict[str, Any] = field(default_factory=lambda: dict(QUESTIONS), hash=False)
    artifact: str | None = None

    def validate(self) -> None:
        self.require(self.attn >= 0, "attn", "it cannot be negative")
        self.require(self.mlp >= 0, "mlp", "it cannot be negative")
        self.require(self.sources >= 1, "sources", "at least one layer is injected")
        self.require(self.targets >= 1, "targets", "at least one layer receives")
        self.require(self.questions >= 1, "questions", "at least one question is asked")
        self.require(0 < self.noise_step < 1000, "noise_step", "the diffusion has 1000 steps")
        self.require("_target_" in self.calibrate_on, "calibrate_on", "it names no task (_target_)")

    def layers(self, view: Model) -> list[int]:
        return []  # which layers receive is known once the model was measured

    def lesson(self) -> Calibration:
        return Calibration(FCCT(noise_step=self.noise_step), self.calibrate_on, self.questions)

    def begin(self, request: Request) -> None:
        missing = {"attn_out", "mlp_out"} - set(request.artifact)
        if missing:
            raise UserError(
                f"method.iri needs recovery rates for {' and '.join(sorted(missing))} and has none: calibrate the model, or "
                "give method.iri.artifact a file that was made so."
            )
        plans = {kind: self._plan(request, kind) for kind in ("attn_out", "mlp_out")}
        request.state["iri"] = plans
        if (self.attn or self.mlp) and not any(plans.values()):
            raise UserError(
                f"method.iri injects nothing: of {request.view.n_layers} layers no source lies below a target. "
                "Raise method.iri.sources or method.iri.targets."
            )

    def attn_out(self, ctx: Call, a: Tensor) -> Tensor | None:
        return self._inject(ctx, "attn_out", a, self.attn)

    def mlp_out(self, ctx: Call, m: Tensor) -> Tensor | None:
        return self._inject(ctx, "mlp_out", m, self.mlp)

    def _plan(self, request: Request, kind: str) -> dict[int, list[tuple[int, float]]]:
        """Target layer -> its sources with their recovery rates."""
        return plan(request.artifact[kind].tolist(), self.sources, self.targets)

    def _inject(self, ctx: Call, kind: str, x: Tensor, strength: float) -> Tensor | None:
        """`x` `[B, n, d]` with the last position injected; None where nothing is."""
        if not strength or ctx.request is None or "iri" not in ctx.request.state:
            return None
        plans = ctx.request.state["iri"][kind]
        old = ctx.store[kind, ctx.layer] = x[:, -1].float()
        if ctx.layer not in plans:
            return None
        import torch

        added = sum(rate * ctx.store[kind, k].to(old.device) for k, rate in plans[ctx.layer])
        new = moved(old, added, strength)
        ctx.count("cosine", torch.cosine_similarity(old, new, dim=-1))
        return torch.cat((x[:, :-1], new[:, None].to(x.dtype)), dim=1)


def plan(rates: list[float], sources: int, targets: int) -> dict[int, list[tuple[int, float]]]:
    """Target layer -> [(source layer below it, its rate)], by rank of the recovery rates `[L]`."""
    ranked = sorted(range(len(rates)), key=lambda i: -rates[i])
    found = {t: [(k, rates[k]) for k in sorted(ranked[:sources]) if k < t] for t in sorted(ranked[:targets])}
    return {t: below for t, below in found.items() if below}
