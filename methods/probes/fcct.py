"""FCCT ("Causal tracing of object representations", arXiv 2511.05923): which layer carries the object to the answer.

Yes/no questions about objects that are in the picture are asked three times: clean (p_c), with a noisy picture (p_n),
and noisy with one activation of the last prompt token put back as it was in the clean run (p_p); p is the probability
of "yes" as the first token of the answer. The recovery rate of an activation is

    RR = (p_p - p_n) / (p_c - p_n),

averaged over the questions, one curve over the layers for each of attention output, MLP output and layer output.

A patch of the last token cannot change the keys and values before it, so the prompt runs once clean and once noisy, and
every patch is one forward of one token on the noisy run's cache: 3 L small forwards for a question.

A question that the noise weakens gives one row for each layer, any other question one row without a layer, that tells
how little its answer dropped.

Ours, where the paper is silent: the noise is VCD's diffusion, seeded by the example, at step 900 (at VCD's own 500 too
few answers weaken; the curves agree); questions with p_c - p_n < 0.1 are left out; only the category *last token* is
traced (IRI needs no other).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.contracts.asker import Answer
from harness.contracts.call import Request
from harness.contracts.example import Example
from harness.contracts.lesson import Learned
from harness.contracts.probe import Probe
from harness.contracts.table import Column, Row, Table
from harness.errors import Unsupported, UserError
from methods.activations.capture import Capture, Kind, Patch
from methods.contrast.vcd import VCD

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.inputs import Inputs
    from harness.contracts.model import Model

KINDS: tuple[Kind, ...] = ("attn_out", "mlp_out", "layer_out")
LEAST = 0.1  # smallest drop by the noise that makes a question informative
LAYER = Column("layer", "layer", meaning="layer whose output was put back; none: the noise did not weaken the answer")
RATES = tuple(Column(kind, unit="recovery rate", meaning=f"share of the drop that {what} alone restores") for kind, what in
              zip(KINDS, ("the attention's output", "the MLP's output", "the layer's output"), strict=True))  # fmt: skip
DROP = Column("drop", unit="probability", meaning="of yes, from the clean picture to the noisy one")


@dataclass(frozen=True, kw_only=True)
class FCCT(Probe):
    """Causal tracing of the last prompt token."""

    name = "fcct"
    title = "FCCT: which layer carries a seen object to the answer"
    paper = "2511.05923"
    needs = frozenset({"images"})
    columns = (LAYER, *RATES, DROP)
    wants = "a yes/no question about an object that is in its picture"
    options = {"noise_step": "diffusion step of the picture's noise, of 1000"}

    noise_step: int = 900

    def validate(self) -> None:
        self.require(0 < self.noise_step < 1000, "noise_step", "the diffusion has 1000 steps")

    def reads(self, example: Example) -> bool:
        return positive(example)

    def rows(self, example: Example, request: Request, answer: Answer) -> Iterable[Row]:
        import torch

        if not self.reads(example):
            return []
        with torch.no_grad():
            rates, drop = recovery(request, self.noise_step)
        if rates is None:
            return [(None, None, None, None, drop)]
        return [(layer, *of_layer, drop) for layer, of_layer in enumerate(rates.T.tolist())]

    def tells(self, rows: Sequence[Row]) -> bool:
        return bool(rows) and rows[0][0] is not None

    def conclude(self, rows: Sequence[Sequence[Row]]) -> Learned:
        """The mean recovery rates `[L]` (float32) by kind, as tensors and as the table `curves`; the tensor `questions`:
        how many were used, and how many were not, because the noise did not touch the answer.
        """
        import torch

        traced = [one for one in rows if self.tells(one)]
        skipped = sum(bool(one) for one in rows) - len(traced)
        if not traced:
            raise Unsupported(
                f"Causal tracing found no usable question: {skipped} were asked about objects that are there, and noise "
                f"weakened no yes by {LEAST}. Use more questions, more noise, or another model."
            )
        rates = [torch.tensor([row[1:4] for row in one], dtype=torch.float32).T for one in traced]  # [3, L] each
        mean = torch.stack(rates).mean(0)
        curves = Table((LAYER, *RATES), tuple((layer, *of_layer) for layer, of_layer in enumerate(mean.T.tolist())))
        tensors = {kind: mean[i] for i, kind in enumerate(KINDS)} | {"questions": torch.tensor([len(traced), skipped])}
        return Learned(tensors, {"curves": curves})


def recovery(request: Request, noise_step: int) -> tuple[Tensor | None, float]:
    """Recovery rates `[3, L]` of one sample's question, None if the noise changes its answer too little; and by how much
    it does.
    """
    import torch

    yes = yes_ids(request.view)
    clean = Capture(what=KINDS)
    p_clean = probability(request.forward(request.inputs, under=clean).logits, yes)
    noisy = request.with_pixels(VCD(noise_step=noise_step).noisy)
    out = request.forward(noisy)
    p_noisy = probability(out.logits, yes)
    if p_clean - p_noisy < LEAST:
        return None, p_clean - p_noisy
    patched = [
        [
            probability(last_token(request, noisy, out.past_key_values, Patch(kind=kind, layer=i, value=value)), yes)
            for i, value in sorted(clean.kept[kind].items())
        ]
        for kind in KINDS
    ]
    return (torch.tensor(patched) - p_noisy) / (p_clean - p_noisy), p_clean - p_noisy


def last_token(request: Request, inputs: Inputs, cache: Any, patch: Patch | None = None) -> Tensor:
    """Logits `[1, 1, V]` of the last prompt token, run again under `patch` on the cache of the whole prompt."""
    cache.crop(-1)
    positions = None if inputs.positions is None else inputs.positions[..., -1:]
    last = inputs.changed(ids=inputs.ids[:, -1:], positions=positions, image=None, embed=None)
    return request.forward(last, cache=cache, under=patch).logits


def positive(example: Example) -> bool:
    """Whether the object that the question is about is there."""
    return example.references == ("yes",)


def probability(logits: Tensor, ids: Sequence[int]) -> float:
    """Summed probability of `ids` at the last position of logits `[1, n, V]`."""
    return float(logits[0, -1].float().softmax(-1)[list(ids)].sum())


def yes_ids(view: Model) -> list[int]:
    """First tokens of "Yes" and "yes", with and without a blank before them: those that say yes by themselves, or,
    where a tokenizer has none of them, the first pieces.
    """
    texts = ("Yes", "yes", " Yes", " yes")
    first = [next((i for i in view.encode(text) if view.decode([i]).strip()), None) for text in texts]
    pieces = sorted({i for i in first if i is not None})
    words = [i for i in pieces if view.decode([i]).strip().lower() == "yes"]
    if not pieces:
        raise UserError(f"The tokenizer of model '{view.name}' cannot write 'yes', which causal tracing reads.")
    return words or pieces
