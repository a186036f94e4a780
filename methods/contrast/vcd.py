"""VCD (Leng et al. 2024, arXiv 2311.16922): contrast with what the model says when the picture is noise.

The second stream sees the same text and the picture after step t of a diffusion of 1000 steps,

    x' = sqrt(abar_t) x + sqrt(1 - abar_t) eps,   eps ~ N(0, 1),   abar_t = prod_{s <= t} (1 - beta_s),
    beta_s = sigmoid(linspace(-6, 6, 1000)_s) (0.005 - 1e-5) + 1e-5,

on the pixel values as the model gets them (normalised). Then `out = (1 + alpha) l - alpha l'`, and -inf wherever
`l < max l + log beta`. Defaults: t 500 (abar 0.7448), alpha 1, beta 0.1 (release: evaluation script; its POPE launcher
says 0.2, its sampler falls back to alpha 0.5). Published with sampling at temperature 1, without top-k and top-p;
under greedy search it is the arg max of `out`, and little is gained.

Ours: the noise is drawn once per request and sample from a generator seeded by `seed` and the example's id, so it
depends on neither batch nor order (release: the global generator).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from harness.contracts.call import Request
from harness.contracts.inputs import Draft
from methods.contrast.two_stream import Contrast

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.inputs import Inputs

STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class VCD(Contrast):
    """Contrast with a noisy picture."""

    name = "vcd"
    title = "VCD: contrast with a noisy picture"
    paper = "2311.16922"
    options = Contrast.options | {
        "noise_step": "diffusion step of the noise, 0 to 999",
        "seed": "of the noise, together with the example's id",
    }

    noise_step: int = 500
    seed: int = 0

    def validate(self) -> None:
        super().validate()
        self.require(0 <= self.noise_step < STEPS, "noise_step", f"the schedule has steps 0 to {STEPS - 1}")

    def negatives(self, request: Request) -> tuple[Inputs, ...]:
        return (request.with_pixels(self.noisy),)

    def noisy(self, draft: Draft, pixels: Tensor) -> Tensor:
        """The sample's pixel values (any shape: noise is elementwise) after `noise_step`."""
        import torch

        digest = hashlib.sha256(f"{self.seed}\0{draft.id}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        noise = torch.randn(pixels.shape, generator=generator).to(pixels.device)
        kept = signal(self.noise_step)
        return (math.sqrt(kept) * pixels.float() + math.sqrt(1 - kept) * noise).to(pixels.dtype)


@cache
def signal(step: int) -> float:
    """abar_t: the share of the variance that is still picture."""
    product = 1.0
    for s in range(step + 1):
        x = -6 + 12 * s / (STEPS - 1)
        product *= 1 - ((0.005 - 1e-5) / (1 + math.exp(-x)) + 1e-5)
    return product
