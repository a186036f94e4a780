"""Where in the depth a method acts, said so that it holds for any model: as a share of the layers, or as a layer.

The papers name layers of 32-layer models; 2 of 32 is the share 0.0625 and means layer 2 of 32, 2 of 40, 1 of 16, 0 of 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.contracts.method import Method
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.contracts.model import Model


@dataclass(frozen=True, kw_only=True)
class InLayers(Method):
    """A method that acts in the layers from `first_layer` to `last_layer`, both included."""

    options: ClassVar[dict[str, str]] = {
        "first_layer": "lowest layer: a share of the depth if below 1, else its number; -1 is the top",
        "last_layer": "highest layer, in the same way",
    }

    first_layer: float = 0.0
    last_layer: float = -1

    def validate(self) -> None:
        for key in ("first_layer", "last_layer"):
            value = getattr(self, key)
            whole = value is None or 0 <= value < 1 or value == int(value)
            self.require(whole, key, "it is a share in [0, 1) or a whole number")

    def check(self, view: Model) -> None:
        n = view.n_layers
        span = self.span(n)
        if not 0 <= span.start < span.stop <= n:
            raise UserError(
                f"method.{self.name}.first_layer {self.first_layer} and last_layer {self.last_layer} mean layers "
                f"{span.start} to {span.stop - 1}, but the model has layers 0 to {n - 1}."
            )

    def top(self) -> float:
        """`last_layer`, or what stands for it."""
        return self.last_layer

    def span(self, n_layers: int) -> range:
        """The layers of a model of `n_layers`."""
        return range(layer_number(self.first_layer, n_layers), layer_number(self.top(), n_layers) + 1)

    def layers(self, view: Model) -> list[int]:
        return list(self.span(view.n_layers))


def layer_number(value: float, n_layers: int) -> int:
    """
    >>> [layer_number(value, 32) for value in (0.0625, 0.4375, 5, -1, 0)]
    [2, 14, 5, 31, 0]
    """
    if 0 < value < 1:
        return int(value * n_layers)
    return int(value) if value >= 0 else n_layers + int(value)
