"""Whether the scores of new tokens are numbers, watched while they are generated."""

from __future__ import annotations

import torch
from torch import Tensor

NEVER = 1 << 30


class Watch:
    """A logits processor that remembers at which new token the scores of a row first were not finite. It only adds a maximum
    to a step, and nothing waits for the device.
    """

    def __init__(self, prompt: int) -> None:
        self.prompt = prompt
        self._first: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        best = scores.amax(-1)  # NaN if one is; minus infinity is a token that was ruled out
        first = torch.full(best.shape, NEVER, device=best.device) if self._first is None else self._first
        self._first = torch.where(torch.isfinite(best), first, first.clamp(max=input_ids.shape[1] - self.prompt))
        return scores

    def first(self, samples: int) -> list[int]:
        """For each sample (beams are rows of one) the number of the first such token, or `NEVER`."""
        return [NEVER] * samples if self._first is None else self._first.view(samples, -1).amin(1).tolist()
