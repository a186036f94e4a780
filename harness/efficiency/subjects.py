"""What is timed: whole requests of a model, or one layer's attention function alone. Both are asked in the same way.

A subject is set to a length and a batch size (`at`), says which methods it cannot serve (`refusals`), makes one request
under a method (`request`), and knows the work of it by formula (`work`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from harness.asking import cache_bytes
from harness.attention.attach import Attached, attach
from harness.attention.doors.dispatch import previous
from harness.contracts.method import Method
from harness.efficiency import formulas
from harness.efficiency.measure import now, timed_request
from harness.efficiency.memory import PeakMemory, settle
from harness.errors import UserError
from harness.models.inputs import Sample
from harness.models.view import View


@dataclass(frozen=True)
class Took:
    """One request. Bytes are of the whole batch; usage as `Usage.report` gives it."""

    first: float  # seconds of the prefill
    step: float  # seconds of one decode step
    lists: float | None = None  # seconds to make lists and masks, paid once per forward (attention alone)
    usage: Mapping[str, Any] = field(default_factory=dict)
    kv_logical: int | None = None
    kv_physical: int | None = None
    peak: int | None = None
    before: int | None = None
    memory_kind: str = ""


class WholeModel:
    """Prompts of random token ids on the whole model, through the same door as `measure`."""

    def __init__(self, view: View, methods: Mapping[str, Method], lowering: str, steps: int, seed: int) -> None:
        self.view, self.methods, self.lowering, self.steps, self.seed = view, methods, lowering, steps, seed
        self.devices: list[torch.device] = sorted({p.device for p in view.model.parameters()}, key=str)
        self.dims = formulas.dims(view)
        self.samples: list[Sample] = []

    def refusals(self) -> dict[str, str]:
        """label -> why it cannot be timed on this model at all."""
        return _refused(self.methods, self._check)

    def _check(self, method: Method) -> None:
        if method.lesson() is not None:
            raise UserError("it is calibrated on answers; `heed run` calibrates it and measures its speed.")
        with attach(self.view, method, self.lowering):
            pass
        if "images" in method.needs:
            raise UserError(
                "it works on pictures, and the prompts of the bench have none; `heed run` measures its speed."
            )

    def at(self, n: int, batch: int) -> None:
        """Make the prompts. `UserError` if they do not fit into the model."""
        self.view.check_length(n + self.steps)
        rng, image = Random(f"{self.seed}/{n}"), self.view.vision and self.view.vision.image_token_id
        ids = [i for i in range(int(self.view.config.vocab_size)) if i != image]
        self.samples = [Sample(tuple(rng.choices(ids, k=n))) for _ in range(batch)]

    def request(self, label: str, watch: bool = False) -> Took:
        """One request under a method; `watch` also looks at its memory, for which unused memory is given back first."""
        with attach(self.view, self.methods[label], self.lowering) as attached:
            if watch:
                settle(self.devices)
            peak = PeakMemory(self.devices) if watch else None
            first, rest, left = timed_request(self.view, self.samples, self.steps, attached, None, self.devices)
            usage = attached.report() if watch else {}
        return Took(first, rest / self.steps, None, usage, left.logical, left.physical, **_memory(peak))

    def work(self, n: int, batch: int, usage: Mapping[str, Any]) -> formulas.Work:
        """By formula, with the densities that were counted."""
        return formulas.request(self.dims, batch, n, self.steps, *_densities(usage))


class AttentionAlone:
    """One layer's attention function on random q, k, v of the model's shape, lowered as in a run.

    Each phase calls the function twice in one forward, on two caches of equal content: the first call makes block lists
    and masks, the second finds them made, as every later layer of a model does. The second is the time; the difference
    is `lists`. Appending to the cache and the library's own mask are not timed.
    """

    def __init__(
        self, view: View, methods: Mapping[str, Method], lowering: str, steps: int, seed: int, device: torch.device
    ) -> None:
        if view.has_sinks or view.softcap is not None:
            raise UserError(
                "bench.kind=attention has no sink logits and no soft cap, which this model needs; use bench.kind=model."
            )
        self.view, self.methods, self.lowering, self.steps, self.seed = view, methods, lowering, steps, seed
        self.devices = [device]
        self.dims = formulas.dims(view)
        acting = [set(m.layers(view)) for m in methods.values() if m.hooks]
        self.layer = max(set(range(view.n_layers)).intersection(*acting), default=view.n_layers - 1)
        self.window = view.sliding_window(self.layer)
        self.qkv: tuple[Tensor, Tensor, Tensor]

    def refusals(self) -> dict[str, str]:
        """label -> why its attention function cannot be timed alone."""
        return _refused(self.methods, self._check)

    def _check(self, method: Method) -> None:
        outside = [hook.name for hook in method.hooks if hook.at != "attention"]
        if outside:
            raise UserError(f"it works outside the attention function ({', '.join(outside)}); use bench.kind=model.")
        with attach(self.view, method, self.lowering):
            pass
        if method.hooks and self.layer not in method.layers(self.view):
            raise UserError(f"it does not act in layer {self.layer}, which is the one that is timed.")

    def at(self, n: int, batch: int) -> None:
        """Draw q, k, v for the prompt and the steps after it: `[B, H or H_kv, n + steps, D]`."""
        self.view.check_length(n + self.steps)
        generator, d = torch.Generator().manual_seed(self.seed), self.dims
        draw: Callable[[int], Tensor] = lambda h: torch.randn(  # noqa: E731
            batch, h, n + self.steps, d.head_dim, generator=generator
        ).to(self.devices[0], self.view.dtype)
        self.qkv = draw(d.heads), draw(d.kv_heads), draw(d.kv_heads)

    def request(self, label: str, watch: bool = False) -> Took:
        """The prompt and the steps after it. Peak memory is what the function itself takes: the caches are there before."""
        with attach(self.view, self.methods[label], self.lowering) as attached:
            caches = [self._cache(attached) for _ in range(2)]
            prompt = self.qkv[0].shape[2] - self.steps
            if watch:
                settle(self.devices)
            peak = PeakMemory(self.devices) if watch else None
            lists, first = self._forward(attached, caches, range(prompt))
            memory = _memory(peak)
            steps = [self._forward(attached, caches, range(prompt + i, prompt + i + 1)) for i in range(self.steps)]
            usage = attached.report() if watch else {}
        one = SimpleNamespace(layers=caches[0].layers[:1])
        logical = sum(cache_bytes.logical(one, [prompt + self.steps] * self.qkv[0].shape[0]))
        seconds = sum(step for _, step in steps) / self.steps
        return Took(first, seconds, max(lists, 0.0), usage, logical, cache_bytes.physical(one), **memory)

    def _cache(self, attached: Attached) -> Any:
        """A cache in which every layer up to the one that is timed is that one: the library asks for sizes by index."""
        cache: Any = attached.new_cache()
        if cache is None:
            cache = DynamicCache(config=self.view.config)
            own = cache.layers[self.layer] if cache.layers else cache.layer_class_to_replicate()
        else:
            own = cache.layer_class_to_replicate()
        cache.layers = [own] * (self.layer + 1)
        return cache

    def _forward(self, attached: Attached, caches: Sequence[Any], rows: range) -> tuple[float, float]:
        """Seconds that lists take, and seconds of a call that finds them made."""
        q, k, v = (x[:, :, rows.start : rows.stop] for x in self.qkv)
        runtime = attached.runtime
        if runtime is not None:
            runtime.begin(caches[0])
        make = create_sliding_window_causal_mask if self.window else create_causal_mask
        embeds = q.new_empty(q.shape[0], q.shape[2], 1)
        mask = make(self.view.config, embeds, None, caches[0], layer_idx=self.layer)
        module = self.view.attention(self.layer)
        function, _ = previous(self.view.config, name) if (name := self.view.attn_setting()) == "eager" else (
            ALL_ATTENTION_FUNCTIONS[name], None
        )  # fmt: skip
        seconds = []
        for cache in caches:
            if runtime is not None:
                runtime.forward.cache = cache
                runtime.forward.scratch.clear()
            keys, values = cache.update(k, v, self.layer)
            start = now(self.devices)
            window = {"sliding_window": self.window} if self.window else {}
            function(module, q, keys, values, mask, dropout=0.0, scaling=self.dims.head_dim**-0.5, **window)
            seconds.append(now(self.devices) - start)
        return seconds[0] - seconds[1], seconds[1]

    def work(self, n: int, batch: int, usage: Mapping[str, Any]) -> formulas.Work:
        """By formula, with the densities that were counted."""
        return formulas.attention(self.dims, self.window, batch, n, self.steps, *_densities(usage))


def _refused(methods: Mapping[str, Method], check: Callable[[Method], None]) -> dict[str, str]:
    found = {}
    for label, method in methods.items():
        try:
            check(method)
        except UserError as error:
            found[label] = str(error)
    return found


def _densities(usage: Mapping[str, Any]) -> tuple[float, float]:
    """Shares of the visible pairs that were read in prefill and decode; dense counts nothing, and reads all."""
    found = (usage.get("density_prefill"), usage.get("density_decode"))
    return (1.0 if found[0] is None else found[0], 1.0 if found[1] is None else found[1])


def _memory(peak: PeakMemory | None) -> dict[str, Any]:
    return {} if peak is None else {"peak": peak.read(), "before": peak.before, "memory_kind": peak.kind}
