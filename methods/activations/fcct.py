"""FCCT ("Causal tracing of object representations", arXiv 2511.05923): which layer carries the object to the answer.

Yes/no questions about objects that are in the picture are asked three times: clean (p_c), with a noisy picture (p_n),
and noisy with one activation of the last prompt token put back as it was in the clean run (p_p); p is the probability
of "yes" as the first token of the answer. The recovery rate of an activation is

    RR = (p_p - p_n) / (p_c - p_n),

averaged over the questions, one curve over the layers for each of attention output, MLP output and layer output.

A patch of the last token cannot change the keys and values before it, so the prompt runs once clean and once noisy, and
every patch is one forward of one token on the noisy run's cache: 3 L small forwards for a question.

Ours, where the paper is silent: the noise is VCD's diffusion, seeded by the example, at step 900 (at VCD's own 500 too
few answers weaken; the curves agree); questions with p_c - p_n < 0.1 are left out; only the category *last token* is
traced (IRI needs no other).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.contracts.call import Request
from harness.contracts.example import Example
from harness.errors import Unsupported, UserError
from methods.activations.capture import Capture, Kind, Patch
from methods.contrast.vcd import VCD

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.inputs import Inputs
    from harness.contracts.model import Model

KINDS: tuple[Kind, ...] = ("attn_out", "mlp_out", "layer_out")
LEAST = 0.1  # smallest drop by the noise that makes a question informative


def curves(requests: Iterable[tuple[Example, Request]], noise_step: int, most: int) -> dict[str, Tensor]:
    """Mean recovery rates `[L]` (float32) by kind over at most `most` questions; `questions`: how many were used, and
    how many were not, because the noise did not touch the answer.
    """
    import torch

    rates: list[Tensor] = []
    skipped = 0
    for example, request in requests:
        if positive(example):
            with torch.no_grad():
                found = recovery(request, noise_step)
            skipped += found is None
            rates += [] if found is None else [found]
        if len(rates) == most:
            break
    if not rates:
        raise Unsupported(
            f"Causal tracing found no usable question: {skipped} were asked about objects that are there, and noise "
            f"weakened no yes by {LEAST}. Use more questions (calibrate_on), more noise, or another model."
        )
    mean = torch.stack(rates).mean(0)
    return {kind: mean[i] for i, kind in enumerate(KINDS)} | {"questions": torch.tensor([len(rates), skipped])}


def recovery(request: Request, noise_step: int) -> Tensor | None:
    """Recovery rates `[3, L]` of one sample's question; None if the noise changes its answer too little."""
    import torch

    yes = yes_ids(request.view)
    clean = Capture(what=KINDS)
    p_clean = probability(request.forward(request.inputs, under=clean).logits, yes)
    noisy = request.with_pixels(VCD(noise_step=noise_step).noisy)
    out = request.forward(noisy)
    p_noisy = probability(out.logits, yes)
    if p_clean - p_noisy < LEAST:
        return None
    patched = [
        [
            probability(last_token(request, noisy, out.past_key_values, Patch(kind=kind, layer=i, value=value)), yes)
            for i, value in sorted(clean.kept[kind].items())
        ]
        for kind in KINDS
    ]
    return (torch.tensor(patched) - p_noisy) / (p_clean - p_noisy)


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
