"""StreamingLLM (Xiao et al. 2023, arXiv 2309.17453) in its own form: a cache of fixed size, positions counted inside
the cache.

After every forward a layer keeps its first `sinks` and its last `recent` keys. The paper stores keys before rotation
and rotates them by their place in the cache. Here cached keys are already rotated; rotation is a group, so only the
sinks have to move: with m tokens dropped so far, the recent keys keep their true rotation R(j) and a sink s becomes
R(m) R(s) k = R(s + m) k. A query at true position t then is at the distances t - j and t - m - s that their places in
the cache say, and attention is a function of distances.

Defaults: 4 sinks, 2000 recent (demo; the class has 512). The prompt itself is dense and holds the question, as in the
reference (run_streaming_llama.py); the prompt must come in one piece here. On layers with a sliding window the model's
mask looks at true positions, so sinks leave its view as before. Refused: models without rotary positions, and rotary
variants whose frequencies depend on the length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.contracts.call import Call
from harness.contracts.method import AfterContext
from harness.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

LENGTH_DEPENDENT = ("dynamic", "longrope")


@dataclass(frozen=True, kw_only=True)
class StreamingKV(AfterContext):
    """Sinks and a rolling window in the cache, with shifted positions."""

    name = "streaming_kv"
    title = "StreamingLLM: rolling cache with attention sinks"
    paper = "2309.17453"
    needs = frozenset({"rotary"})
    budget_unit = "tokens that stay in the cache"
    batching = "equal"
    options = {
        "sinks": "first tokens that stay for ever",
        "recent": "last tokens that stay",
    } | AfterContext.options

    sinks: int = 4
    recent: int = 2000

    def validate(self) -> None:
        super().validate()
        self.require(self.sinks >= 0, "sinks", "it cannot be negative")
        self.require(self.recent >= 1, "recent", "at least one recent key must stay")

    def check(self, view: Model) -> None:
        import torch

        if view.rope(0, torch.zeros(1, dtype=torch.long, device=view.device)) is None:
            raise UserError(
                "Method 'streaming_kv' moves keys to new rotary positions, but this model's positions are not rotary; "
                "use method=streaming, the mask form with absolute positions."
            )
        kinds = str(getattr(view.config, "rope_parameters", None) or {})
        for kind in LENGTH_DEPENDENT:
            if f"'{kind}'" in kinds:
                raise UserError(f"Method 'streaming_kv' cannot serve rope type '{kind}': it depends on the length.")

    def idle(self, n: int) -> str:
        if n > self.sinks + self.recent:
            return ""
        return (
            f"{self.sinks} sinks and {self.recent} recent tokens cover the whole context of {n} tokens; "
            f"{self.lower(recent=n > self.sinks + 1, sinks=n > self.recent)}"
        )

    def edit_cache(self, ctx: Call, layer_cache: Any) -> Tensor | None:
        import torch

        keys, size = layer_cache.keys, self.sinks + self.recent
        n = keys.shape[2]
        if n <= size:
            return None
        first = ctx.state.setdefault("sinks", keys[:, :, : self.sinks].clone())  # as the model rotated them
        dropped = layer_cache.get_seq_length() - size
        layer_cache.keys = torch.cat((rotated(first, ctx, dropped), keys[:, :, self.sinks :]), dim=2)
        kept = torch.cat((torch.arange(self.sinks), torch.arange(n - self.recent, n))).to(keys.device)
        return kept.expand(*keys.shape[:2], -1)


def rotated(x: Tensor, ctx: Call, by: int) -> Tensor:
    """R(by) x for keys `[B, H_kv, n, D]` of a layer; the rotary part may be the first dimensions only (halves
    convention).
    """
    import torch

    rope = ctx.view.rope(ctx.layer, torch.tensor([by], device=x.device))
    assert rope is not None
    cos, sin = (part.float() for part in rope)  # [1, R]
    length = (cos.square() + sin.square()).sqrt()  # some variants scale cos and sin; keys carry that factor already
    cos, sin = cos / length, sin / length
    turning, rest = x[..., : cos.shape[-1]].float(), x[..., cos.shape[-1] :]
    one, two = turning.chunk(2, dim=-1)
    turned = turning * cos + torch.cat((-two, one), dim=-1) * sin
    return torch.cat((turned.to(x.dtype), rest), dim=-1)
