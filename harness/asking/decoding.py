"""How the next token is chosen: greedy, beam search, or sampling that does not depend on the batch.

Sampling is the Gumbel-max trick: arg max of (log p + Gumbel noise) is a draw from p. The noise of a token comes from a
generator of its own, seeded by the run's seed, the example's id and the step, so the same example draws the same answer
alone, in any batch and after a restart. The library's own warpers make p (temperature, then top-k, then top-p).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import UserError, nearest

SEARCHES = ("greedy", "sample", "beam")


@dataclass(frozen=True)
class Decoding:
    """The search, and the numbers that belong to it. `top_k` 0 and `top_p` 1 cut nothing."""

    search: Literal["greedy", "sample", "beam"] = "greedy"
    num_beams: int = 5
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def validate(self) -> None:
        """`UserError` for settings that make no sense."""
        if self.search not in SEARCHES:
            raise UserError(f"decoding.search is {self.search!r}: {nearest(self.search, SEARCHES)}")
        if self.search == "beam" and self.num_beams < 2:
            raise UserError(f"decoding.num_beams is {self.num_beams}: a beam search keeps at least 2.")
        if self.search == "sample" and not (self.temperature > 0 and 0 < self.top_p <= 1 and self.top_k >= 0):
            raise UserError("decoding: sampling needs temperature > 0, 0 < top_p <= 1 and top_k >= 0.")

    def identity(self) -> dict[str, Any]:
        """What enters the run id: the search and only its own numbers (the seed stands there by itself)."""
        own: dict[str, tuple[str, ...]] = {"beam": ("num_beams",), "sample": ("temperature", "top_p", "top_k")}
        return {"search": self.search} | {k: getattr(self, k) for k in own.get(self.search, ())}


GREEDY = Decoding()


def processors(decoding: Decoding, keys: Sequence[str], prompt: int) -> list[Any]:
    """Logits processors for `generate` in greedy mode that turn it into sampling; none for the other searches."""
    if decoding.search != "sample":
        return []
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    warpers: list[Any] = [TemperatureLogitsWarper(float(decoding.temperature))] if decoding.temperature != 1 else []
    warpers += [TopKLogitsWarper(decoding.top_k)] if decoding.top_k else []
    warpers += [TopPLogitsWarper(decoding.top_p)] if decoding.top_p < 1 else []
    return [*warpers, Gumbel(decoding.seed, keys, prompt)]


class Gumbel:
    """Adds Gumbel noise to scores `[B, V]`; row b belongs to `keys[b]`."""

    def __init__(self, seed: int, keys: Sequence[str], prompt: int) -> None:
        self.seed, self.keys, self.prompt = seed, keys, prompt

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        step = input_ids.shape[1] - self.prompt
        rows = [noise(self.seed, key, step, scores.shape[-1]) for key in self.keys]
        return torch.log_softmax(scores, dim=-1) + torch.stack(rows).to(scores.device)


def noise(seed: int, key: str, step: int, n: int) -> Any:
    """`[n]` standard Gumbel numbers (float32) of one token of one example."""
    import torch

    digest = hashlib.sha256(f"{seed}\0{key}\0{step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    uniform = torch.rand(n, generator=generator, dtype=torch.float64).clamp_min_(1e-300)
    return (-torch.log(-torch.log(uniform))).float()
