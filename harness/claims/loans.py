"""Micro models for checks: each is loaded once, on the CPU, and asked the same few things."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.errors import UserError, nearest

if TYPE_CHECKING:
    from harness.models.inputs import Sample
    from harness.models.view import View

SEED = 0
SIDE = 112  # pixels of the picture


class Bench:
    """Lends views of micro models and requests for them."""

    def __init__(self) -> None:
        self._views: dict[str, View] = {}
        self._answers: dict[Any, Any] = {}

    def view(self, name: str) -> View:
        """The model `name`, which must be one that is installed with a package: checks are the same on every machine."""
        from harness.models import shipped
        from harness.models.load import ModelSpec

        if name not in shipped.names():
            raise UserError(
                f"Checks run on models that are installed with a package only; '{name}': {nearest(name, shipped.names())}"
            )
        if name not in self._views:
            self._views[name] = ModelSpec(path=name, device="cpu").load()
        return self._views[name]

    def samples(self, name: str, tokens: int) -> list[Sample]:
        """One request: a picture and a question for a model with eyes, else `tokens` token ids of no meaning."""
        from harness.contracts.inputs import Draft
        from harness.models.inputs import Sample, sample_of

        view = self.view(name)
        if view.vision is not None:
            asked = "Please describe this image in detail."
            return [sample_of(view, Draft("claims", asked, (self.picture,)))]
        return [Sample(tuple(self.ids(name, tokens)))]

    @cached_property
    def picture(self) -> Any:
        """A picture of no meaning, RGB, that differs in every part: stripes of seven colours across a slope of light."""
        import numpy as np
        from PIL import Image

        y, x = np.mgrid[0:SIDE, 0:SIDE]
        rgb = [(x // 16 * 37 * (c + 1)) % 256 * (SIDE - y) // SIDE for c in range(3)]
        return Image.fromarray(np.stack(rgb, axis=-1).astype(np.uint8))

    def ids(self, name: str, n: int) -> list[int]:
        """`n` token ids, always the same ones."""
        from random import Random

        view, rng = self.view(name), Random(SEED)
        return [rng.randrange(len(view.tokenizer)) for _ in range(n)]

    def once(self, key: Any, make: Any) -> Any:
        """What `make()` gave the first time (the dense side of many checks is the same)."""
        if key not in self._answers:
            self._answers[key] = make()
        return self._answers[key]
