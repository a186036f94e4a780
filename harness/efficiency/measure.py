"""Speed and memory of one request, measured apart from accuracy.

How it is measured, so that a number can be trusted or repeated:

1. One prompt (or `batch` copies of it, computed together), greedy. The method is attached by the caller, so its own work
   is inside every number; what it does once per request before the prefill (`transform`, `begin`) belongs to the time
   to first token. So does encoding the request's pictures, which nothing remembers here; decoding and resizing them does
   not.
2. Warm-up: one whole request (two at level `full`) that is not counted: kernels are chosen and compiled, caches are
   touched.
3. Time to first token: from before `begin` and an empty cache to the first new token's id being known, cache
   compression included, and the question where it is read token by token. Logits of the last prompt position only.
4. Decode: the `new_tokens` forward passes that follow, timed as one stretch and divided by their number: the time per
   token of each prompt, so a batch makes `batch` tokens in it. Each feeds the greedy token back; nothing is read back in
   between, and no stop id ends it, so that every repetition does equal work.
5. The clock is the process's monotonic one; on a GPU every device in use is synchronised before each reading of it.
6. Median with 20 and 80 % quantiles over n repetitions: 3 (`quick`) or 10 (`full`). `quick` makes fewer when the
   warm-up shows that they would take more than about a second together; n is reported.
7. Peak memory is reset after the warm-up, when what is not used any more was given back, and covers all repetitions;
   pictures that the harness keeps to save time are left out (see `memory.py` for what the number is). Key-value bytes are
   read from all caches that the last request holds, those of second streams included (see `harness/asking/cache_bytes.py`);
   prompt tokens are those that were really read, after `transform`.

Times depend on the machine: they are compared within one machine only, and `hardware` says which it was; `other_load` says
how many processors others kept busy meanwhile (see `load.py`), `pace_ms` how long a fixed piece of work took between the
repetitions (see `pace.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from harness.asking import cache_bytes
from harness.attention import apart
from harness.efficiency import hardware
from harness.efficiency.load import OtherLoad
from harness.efficiency.memory import PeakMemory, settle
from harness.efficiency.pace import Pace
from harness.models.inputs import Sample, collate, memory
from harness.models.view import View

if TYPE_CHECKING:
    from harness.attention.attach import Attached

Level = Literal["quick", "full"]
REPEATS = {"quick": 3, "full": 10}
WARMUPS = {"quick": 1, "full": 2}
NEW_TOKENS = {"quick": 8, "full": 32}
QUICK_SECONDS = 1.0  # for the counted repetitions of level quick


@dataclass(frozen=True)
class Left:
    """What a request leaves: prompt tokens as they were read, and every cache with the tokens that its rows read. No cache:
    the method's own search keeps it to itself.
    """

    prompt: int
    caches: tuple[tuple[Any, Sequence[int]], ...] = ()

    @property
    def logical(self) -> int | None:
        """Bytes of keys and values of all rows."""
        return sum(sum(cache_bytes.logical(cache, rows)) for cache, rows in self.caches) if self.caches else None

    @property
    def physical(self) -> int | None:
        """Bytes of the storages behind them."""
        return cache_bytes.physical(*(cache for cache, _ in self.caches)) if self.caches else None


@torch.no_grad()
def measure(
    view: View,
    prompt: Sample | Sequence[int],
    level: Level,
    attached: Attached | None = None,
    new_tokens: int | None = None,
    prepare: Callable[[Sample], Sample] | None = None,
    batch: int = 1,
) -> dict[str, Any]:
    """Time to first token, decode speed, peak memory and cache size of one request, as plain JSON values.

    `attached`: the method that is at work (None: the bare model). `new_tokens` is the number of decode steps (default 8
    or 32). `prepare`: what is done to the sample at the start of every request (`Method.transform`). `batch`: how many
    copies of the prompt make up the request; bytes are of all of them together. Raises `UserError` if the request
    exceeds the model's length.
    """
    steps = new_tokens or NEW_TOKENS[level]
    sample = _unseen(prompt if isinstance(prompt, Sample) else Sample(tuple(prompt)))
    view.check_length(len(sample) + steps)
    devices = sorted({p.device for p in view.model.parameters()}, key=str)
    request = partial(timed_request, view, [sample] * batch, steps, attached, prepare, devices)
    n = _repeats(level, request)
    settle(devices)
    peak, load = PeakMemory(devices, aside=memory(view).bytes_on(devices)), OtherLoad()
    times, left = _repeated(request, n, steps, batch)
    return {
        "level": level, "batch": batch, "prompt_tokens": left.prompt, "question_tokens": sample.tail, "new_tokens": steps,
        "context_tokens": left.prompt + steps, **times,
        "peak_memory_bytes": peak.read(), "memory_before_bytes": peak.before, "memory_kind": peak.kind,
        "weight_bytes": view.weight_bytes, "kv_bytes_logical": left.logical, "kv_bytes_physical": left.physical,
        "dtype": str(view.dtype).removeprefix("torch."), "backend": view.attn_setting(), "device": view.device.type,
        "other_load": load.read(), "hardware": hardware.describe(view.device),
    }  # fmt: skip


def _repeats(level: Level, request: Callable[[], Any]) -> int:
    """Warm up, and see how often a request can be repeated in the time of the level."""
    started = time.perf_counter()
    for _ in range(WARMUPS[level]):
        request()
    cost = (time.perf_counter() - started) / WARMUPS[level]
    return REPEATS[level] if level == "full" else max(1, min(REPEATS[level], int(QUICK_SECONDS / max(cost, 1e-9))))


def _repeated(
    request: Callable[[], tuple[float, float, Left]], n: int, steps: int, batch: int
) -> tuple[dict[str, Any], Left]:
    """The times of `n` requests, with the pace of the machine between them, and what the last one left."""
    pace, paces = Pace(), list[float]()
    left, first, rest = None, list[float](), list[float]()
    for _ in range(n):
        paces.append(pace.read())
        left = None  # the previous request's memory is free before the next begins
        ttft, decode, left = request()
        first.append(ttft * 1e3)
        rest.append(decode * 1e3 / steps)
    assert left is not None
    return {
        "ttft_ms": summary(first),
        "decode_ms_per_token": summary(rest),
        "decode_tokens_per_s": summary([batch * 1e3 / ms for ms in rest]),
        "pace_ms": summary([*paces, pace.read()]),
    }, left


def _unseen(sample: Sample) -> Sample:
    """The sample without its picture's key: what was encoded before must be encoded again."""
    return replace(sample, draft=replace(sample.draft, image_key=""))


def timed_request(
    view: View,
    samples: Sequence[Sample],
    steps: int,
    attached: Attached | None = None,
    prepare: Callable[[Sample], Sample] | None = None,
    devices: Sequence[torch.device] = (),
) -> tuple[float, float, Left]:
    """One request of prompts of one length: seconds to the first token, seconds of the `steps` decode passes, and what is
    left of it. `devices` are synchronised before the clock is read.
    """
    own = attached is not None and attached.method.searches
    return (_own_search if own else _library_search)(view, samples, steps, attached, prepare, devices)


def _prompts(view: View, samples: Sequence[Sample], prepare: Any) -> Any:
    return collate(view, [_unseen(prepare(sample) if prepare is not None else sample) for sample in samples])


def _library_search(
    view: View, samples: Sequence[Sample], steps: int, attached: Any, prepare: Any, devices: Sequence[torch.device]
) -> tuple[float, float, Left]:
    """Positions are passed explicitly, since the length of a compressed cache says nothing about them."""
    cache = attached.new_cache() if attached is not None else None
    cache = DynamicCache(config=view.config) if cache is None else cache
    t0 = now(devices)
    inputs = _prompts(view, samples, prepare)
    inputs = attached.begin(inputs) if attached is not None else inputs
    first = torch.arange(inputs.ids.shape[1], device=view.device)[None]
    start = first if inputs.positions is None else inputs.positions
    given = inputs.prefill() | {"position_ids": start}
    if inputs.tail:
        apart.read(view, inputs, cache)
        given = {"input_ids": inputs.ids[:, -1:], "position_ids": start[..., -1:]}
    token = _step(view, given, cache)
    t1 = now(devices)
    for i in range(1, steps + 1):
        token = _step(view, {"input_ids": token, "position_ids": start[..., -1:] + i}, cache)
    t2 = now(devices)
    n = inputs.ids.shape[1]
    streams = [stream.held for stream in attached.streams] if attached is not None else []
    caches = [(cache, [n + steps] * len(samples)), *((other, [m + steps for m in rows]) for other, rows in streams)]
    return t1 - t0, t2 - t1, Left(n, tuple(caches))


def _own_search(
    view: View, samples: Sequence[Sample], steps: int, attached: Any, prepare: Any, devices: Sequence[torch.device]
) -> tuple[float, float, Left]:
    """The same of a method with a search of its own: one new token, then one more request of all of them."""
    seconds, length = [], 0
    for n in (1, steps + 1):
        start = now(devices)
        length = attached.begin(_prompts(view, samples, prepare)).ids.shape[1]
        attached.method.generate(attached.request, [n] * len(samples), [])
        seconds.append(now(devices) - start)
    return seconds[0], max(seconds[1] - seconds[0], 1e-9), Left(length)


def _step(view: View, given: dict[str, Any], cache: Any) -> Tensor:
    """The greedy next tokens `[B, 1]`."""
    out = view.lm(**given, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return out.logits[:, -1:].argmax(-1).to(view.device)


def now(devices: Sequence[torch.device]) -> float:
    """The clock in seconds, when everything queued on `devices` is done."""
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return time.perf_counter()


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and 20/80 % quantiles (linear interpolation), and how many values they stand for."""
    q20, median, q80 = np.quantile(np.asarray(values, dtype=float), (0.2, 0.5, 0.8)).tolist()
    return {"median": median, "q20": q20, "q80": q80, "n": len(values)}
