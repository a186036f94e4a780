"""VDD (Zhang et al. 2024, arXiv 2403.05262): contrast with what the model says without the picture.

`mode: dd` cuts the image tokens out of the second stream; `dd_unk` puts one unknown token in the place of each picture;
`both` averages the logits of the two. Then `out = (1 + alpha) l - alpha l'` and -inf wherever `l < max l + log beta`.
Defaults of the release: alpha 1, beta 0.1 (scripts 0.2), temperature 0.2 or 1.

`dd_unk` needs a tokenizer with an unknown token (Llama's has one, Qwen's has none). Ours: every unbroken run of image
tokens becomes one unknown token, whatever separates pictures stays. Not offered: the paper's second proposal, an affine
calibration of answer probabilities on content-free inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.contracts.call import Request
from harness.errors import UserError
from methods.contrast.two_stream import Contrast

if TYPE_CHECKING:
    from harness.contracts.inputs import Inputs
    from harness.contracts.model import Model


@dataclass(frozen=True, kw_only=True)
class VDD(Contrast):
    """Contrast with the text alone."""

    name = "vdd"
    title = "VDD: contrast with the text alone"
    paper = "2403.05262"
    options = Contrast.options | {
        "mode": "dd: no picture; dd_unk: an unknown token in its place; both: the mean of their logits",
    }

    mode: Literal["dd", "dd_unk", "both"] = "dd"

    def validate(self) -> None:
        super().validate()
        self.require(self.mode in ("dd", "dd_unk", "both"), "mode", "it is 'dd', 'dd_unk' or 'both'")

    def check(self, view: Model) -> None:
        super().check(view)
        if self.mode != "dd" and view.tokenizer.unk_token_id is None:
            raise UserError(
                f"method.vdd.mode is {self.mode!r}, but the tokenizer of '{view.name}' has no unknown token; use dd."
            )

    def negatives(self, request: Request) -> tuple[Inputs, ...]:
        blind = request.without_image()
        if self.mode == "dd":
            return (blind,)
        unknown = with_unknown(request, blind)
        return (unknown,) if self.mode == "dd_unk" else (blind, unknown)


def with_unknown(request: Request, blind: Inputs) -> Inputs:
    """The prompts with one unknown token for each run of image tokens; `blind` are those without any."""
    import torch

    whole, unknown = request.inputs, request.view.tokenizer.unk_token_id
    assert whole.image is not None
    first = whole.image.clone()  # the first token of each run
    first[:, 1:] &= ~whole.image[:, :-1]
    ids = whole.ids.masked_fill(first, unknown)
    kept = whole.mask.bool() & (first | ~whole.image)
    width = int(kept.sum(1).max())
    order = torch.argsort(kept.long(), dim=1, stable=True)[:, -width:]  # what is dropped goes to the left, as padding
    mask = kept.long().gather(1, order)
    positions = None
    if blind.positions is not None:  # plain text: every axis counts alike
        positions = (mask.cumsum(1) - 1).clamp(min=0).expand(*blind.positions.shape[:-1], width)
    return blind.changed(ids=ids.gather(1, order), mask=mask, positions=positions)
