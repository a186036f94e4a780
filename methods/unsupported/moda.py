"""MODA (arXiv 2507.04635): modular duplex attention. Listed so that asking for it gives a reason; it cannot be run.

The paper changes the decoder's attention (keys mapped between modalities through a normed Gram matrix, separate self
and cross parts, finite pseudo-scores above the diagonal) and trains the whole model with it. Not stated in the text,
and no readable code was found: the norm of the Gram matrix, the shape of the fuser, how the self and cross parts are
combined, the slope of the pseudo-scores, the formula of the location prior. An implementation would be a guess under
its name.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.contracts.method import Method
from harness.errors import UserError

REASON = (
    "Method 'moda' cannot be run: the paper (arXiv 2507.04635) trains the model with a changed attention, its text leaves "
    "out the norm, the fusion and the combination that define it, and no code or weights could be read. Trained "
    "alternative on images: cca; without training: vista, vhr, iri, carve (`heed list methods`)."
)


@dataclass(frozen=True, kw_only=True)
class Moda(Method):
    """Modular duplex attention: refused with its reason."""

    name = "moda"
    title = "MODA: modular duplex attention (not reproducible from its text: refused)"
    paper = "2507.04635"
    needs = frozenset({"images", "trained"})
    budget_unit = "none"

    def validate(self) -> None:
        raise UserError(REASON)
