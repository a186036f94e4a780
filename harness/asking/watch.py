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
        self._begin = 0  # new tokens that were there before the first step
        self._best: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not self._best:
            self._begin = input_ids.shape[1] - self.prompt
        self._best.append(scores.amax(-1))  # NaN if one is; minus infinity is a token that was ruled out
        return scores

    def first(self, samples: int) -> list[int]:
        """For each sample (beams are rows of one) the number of the first such token, or `NEVER`."""
        if not self._best:
            return [NEVER] * samples
        finite = torch.isfinite(torch.stack(self._best)).view(len(self._best), samples, -1).all(-1).T
        return [row.index(False) + self._begin if False in row else NEVER for row in finite.tolist()]
