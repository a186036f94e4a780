"""What stays in the key-value cache and what a step reads, as counted by the harness on a micro model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.claims.checks.base import OfMethod, built
from harness.contracts.check import Finding

if TYPE_CHECKING:
    from harness.contracts.check import Bench


@dataclass(frozen=True, kw_only=True)
class KeptKeys(OfMethod):
    """Keys in the cache (mean over layers): after the prompt, and after `steps` more tokens."""

    model: str
    tokens: int = 256
    steps: int = 8

    def measure(self, bench: Bench) -> Finding:
        after_prompt = self._report(bench, 0)["kv_tokens_kept"]
        return Finding([int(after_prompt), int(self._report(bench, self.steps)["kv_tokens_kept"])])

    def _report(self, bench: Bench, steps: int) -> dict[str, float]:
        import torch

        from harness.attention.attach import attach

        view = bench.view(self.model)
        ids = torch.tensor([bench.ids(self.model, self.tokens + self.steps)])
        with torch.no_grad(), attach(view, built(self.method)) as attached:
            out = view.model(ids[:, : self.tokens], past_key_values=attached.new_cache(), use_cache=True)
            for i in range(self.tokens, self.tokens + steps):
                view.model(ids[:, i : i + 1], past_key_values=out.past_key_values, use_cache=True)
            return attached.report()


@dataclass(frozen=True, kw_only=True)
class KeysRead(KeptKeys):
    """Mean number of keys that a head reads in one step, over all layers."""

    def measure(self, bench: Bench) -> Finding:
        report = self._report(bench, self.steps)
        return Finding(report["keys_read"], note=f"of {int(report['kv_tokens_seen'])} keys in the cache")
