"""Speed and memory of one request, measured apart from accuracy.

How it is measured, so that a number can be trusted or repeated:

1. Batch 1, one prompt, greedy. The method is attached by the caller, so its own work is inside every number; what it
   does once per request before the prefill (`begin`) is passed in and belongs to the time to first token.
2. Warm-up: one whole request (two at level `full`) that is not counted: kernels are chosen and compiled, caches are
   touched.
3. Time to first token: from before `begin` and an empty cache to the first new token's id being known, cache
   compression included. Logits of the last prompt position only.
4. Decode: the `new_tokens` forward passes that follow, timed as one stretch and divided by their number. Each feeds the
   greedy token back; nothing is read back in between, and no stop id ends it, so that every repetition does equal work.
5. The clock is the process's monotonic one; on a GPU every device in use is synchronised before each reading of it.
6. Median with 20 and 80 % quantiles over n repetitions: 3 (`quick`) or 10 (`full`). `quick` makes fewer when the
   warm-up shows that they would take more than about a second together; n is reported.
7. Peak memory is reset after the warm-up and covers all repetitions (see `memory.py` for what the number is); key-value
   bytes are read from the cache at the end of the last request (see `harness/generation/kv.py`).

Times depend on the machine: they are compared within one machine only, and `hardware` says which it was.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from harness.efficiency import hardware
from harness.efficiency.memory import PeakMemory
from harness.generation import kv
from harness.generation.generate import NewCache
from harness.models.view import View

Level = Literal["quick", "full"]
REPEATS = {"quick": 3, "full": 10}
WARMUPS = {"quick": 1, "full": 2}
NEW_TOKENS = {"quick": 8, "full": 32}
QUICK_SECONDS = 1.0  # for the counted repetitions of level quick


@torch.no_grad()
def measure(
    view: View,
    prompt_ids: Sequence[int],
    level: Level,
    new_cache: NewCache | None = None,
    new_tokens: int | None = None,
    begin: Callable[[], Any] | None = None,
) -> dict[str, Any]:
    """Time to first token, decode speed, peak memory and cache size of one request, as plain JSON values.

    `new_tokens` is the number of decode steps (default 8 or 32). Raises `UserError` if the request exceeds the model's
    length.
    """
    steps = new_tokens or NEW_TOKENS[level]
    view.check_length(len(prompt_ids) + steps)
    devices = sorted({p.device for p in view.model.parameters()}, key=str)
    ids = torch.tensor([list(prompt_ids)], device=view.device)
    started = time.perf_counter()
    for _ in range(WARMUPS[level]):
        _request(view, ids, steps, _empty_cache(view, new_cache), begin, devices)
    cost = (time.perf_counter() - started) / WARMUPS[level]
    n = REPEATS[level] if level == "full" else max(1, min(REPEATS[level], int(QUICK_SECONDS / max(cost, 1e-9))))
    gc.collect()
    peak = PeakMemory(devices)
    cache, first, rest = None, [], []
    for _ in range(n):
        cache = None  # the previous request's memory is free before the next begins
        cache = _empty_cache(view, new_cache)
        ttft, decode = _request(view, ids, steps, cache, begin, devices)
        first.append(ttft * 1e3)
        rest.append(decode * 1e3 / steps)
    return {
        "level": level,
        "batch": 1,
        "prompt_tokens": len(prompt_ids),
        "new_tokens": steps,
        "context_tokens": len(prompt_ids) + steps,
        "ttft_ms": _summary(first),
        "decode_ms_per_token": _summary(rest),
        "decode_tokens_per_s": _summary([1e3 / ms for ms in rest]),
        "peak_memory_bytes": peak.read(),
        "memory_before_bytes": peak.before,
        "memory_kind": peak.kind,
        "weight_bytes": view.weight_bytes,
        "kv_bytes_logical": kv.logical(cache, [len(prompt_ids) + steps])[0],
        "kv_bytes_physical": kv.physical(cache, 1),
        "dtype": str(view.dtype).removeprefix("torch."),
        "backend": view.attn_setting(),
        "device": view.device.type,
        "hardware": hardware.describe(view.device),
    }


def _empty_cache(view: View, new_cache: NewCache | None) -> Any:
    cache = new_cache() if new_cache is not None else None
    return DynamicCache(config=view.config) if cache is None else cache


def _request(
    view: View, ids: Tensor, steps: int, cache: Any, begin: Callable[[], Any] | None, devices: Sequence[torch.device]
) -> tuple[float, float]:
    """Seconds to the first token and seconds of the `steps` decode passes.

    Positions are passed explicitly, since the length of a compressed cache says nothing about them.
    """
    positions = torch.arange(ids.shape[1] + steps, device=ids.device)[None]
    t0 = _now(devices)
    if begin is not None:
        begin()
    token = _step(view, ids, positions[:, : ids.shape[1]], cache)
    t1 = _now(devices)
    for i in range(ids.shape[1], ids.shape[1] + steps):
        token = _step(view, token, positions[:, i : i + 1], cache)
    t2 = _now(devices)
    return t1 - t0, t2 - t1


def _step(view: View, ids: Tensor, positions: Tensor, cache: Any) -> Tensor:
    """The greedy next token `[1, 1]`."""
    out = view.model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return out.logits[:, -1:].argmax(-1).to(view.device)


def _now(devices: Sequence[torch.device]) -> float:
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return time.perf_counter()


def _summary(values: Sequence[float]) -> dict[str, float]:
    """Median and 20/80 % quantiles (linear interpolation), and how many values they stand for."""
    q20, median, q80 = np.quantile(np.asarray(values, dtype=float), (0.2, 0.5, 0.8)).tolist()
    return {"median": median, "q20": q20, "q80": q80, "n": len(values)}
