"""Batched generation on `transformers`' own `generate`.

Only the settings of `Decoding` count: sampling settings, penalties and suppressed tokens that a checkpoint's generation
config carries are put aside for the call; its stop ids stay. Prompts are padded on the left, a row ends at its own stop
id or its own limit, and the prefill computes the logits of the last position only (`logits_to_keep`, set by the
library).

Prompts about one picture begin alike. `share=True` computes that beginning once for each picture and lets all its
prompts go on from it; only methods that promise `prefix_safe` are served so. In a narrow number format the pieces round as
another batch would: on yes/no questions the logits of a micro model in bfloat16 move by one unit in the last place, by sharing and by
batching alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from harness.asking import cache_bytes
from harness.asking.decoding import GREEDY, Decoding, processors
from harness.asking.watch import NEVER, Watch
from harness.attention import apart
from harness.attention.blame import blame
from harness.contracts.inputs import Draft
from harness.errors import UserError
from harness.models.inputs import Inputs, Sample, collate
from harness.models.view import View

if TYPE_CHECKING:
    from harness.attention.attach import Attached
    from harness.attention.usage import Counts


@dataclass(frozen=True)
class Generation:
    """One answer. `ids` are the new ones, the stop id included if there is one; `text` has no special tokens."""

    text: str
    ids: tuple[int, ...]
    n_prompt: int
    n_new: int
    finish: Literal["stop", "length"]
    kv_bytes_logical: int | None  # all its caches; None: a search of the method's own keeps its cache to itself
    kv_bytes_physical: int | None  # memory of the batch's caches / batch size
    usage: tuple[Counts, ...] = ()  # what it read, one for each request (turn); empty where nothing is installed


@torch.no_grad()
def generate(
    view: View,
    prompts: Sequence[Sample | Sequence[int]],
    max_new_tokens: Sequence[int],
    attached: Attached | None = None,
    decoding: Decoding = GREEDY,
    share: bool = False,
) -> list[Generation]:
    """Continue `prompts` (samples, or bare token ids), each by at most `max_new_tokens[b]`.

    `attached`: the method at work, which also makes the key-value cache. Raises `UserError` if a row exceeds the
    model's length.
    """
    if not prompts or len(prompts) != len(max_new_tokens) or min(map(len, prompts)) < 1 or min(max_new_tokens) < 1:
        raise ValueError("generate needs non-empty prompts and one positive limit for each")
    samples = [p if isinstance(p, Sample) else Sample(tuple(p)) for p in prompts]
    for sample, limit in zip(samples, max_new_tokens, strict=True):
        view.check_length(len(sample) + limit)
    if share and _can_share(view, samples, attached, decoding):
        return _shared(view, samples, max_new_tokens, attached, decoding)
    return _batch(view, samples, max_new_tokens, attached, decoding)


def _batch(
    view: View,
    samples: Sequence[Sample],
    limits: Sequence[int],
    attached: Attached | None,
    decoding: Decoding,
    prefix: Any = None,
    begun: Sequence[Counts | None] = (),
) -> list[Generation]:
    """One call of the library. `prefix`: a cache that already holds the beginning of every row, `begun`: what was read for
    it.
    """
    stop = view.stop_ids
    inputs = collate(view, samples)
    inputs = attached.begin(inputs) if attached is not None else inputs
    if attached is not None and attached.method.searches:
        new = [
            _trim(r, n, stop)
            for r, n in zip(attached.method.generate(attached.request, limits, stop), limits, strict=True)
        ]
        counts = _counted(samples, new, attached)
        return [_generation(view, s, row, stop, usage=c) for s, row, c in zip(samples, new, counts, strict=True)]
    given: dict[str, Any] = {"input_ids": inputs.ids, "attention_mask": inputs.mask}
    if prefix is None and inputs.embeds is not None:
        given["inputs_embeds"] = inputs.embeds
    if inputs.positions is not None:
        given["position_ids"] = inputs.positions
    cache = prefix if prefix is not None else attached.new_cache() if attached is not None else None
    if inputs.tail:
        cache = _repeated(apart.read(view, inputs, cache), _beams(decoding))
    out = call(view, given, samples, limits, decoding, cache, attached)
    rows = out.sequences.tolist()
    cut = _begin(rows, inputs.ids[0].tolist())
    return generations(
        view, samples, [row[cut:] for row in rows], limits, out.past_key_values, decoding, attached, begun
    )


def _repeated(cache: Any, beams: int) -> Any:
    """A cache that was filled before the search, for each of its beams."""
    if beams > 1:
        cache.batch_repeat_interleave(beams)
    return cache


def call(
    view: View, given: dict[str, Any], samples: Sequence[Sample], limits: Sequence[int], decoding: Decoding, cache: Any,
    attached: Attached | None = None, over: Tensor | None = None, done: int = 0,
) -> Any:  # fmt: skip
    """The library's `generate` on the tensors `given`. `done`: new tokens that `input_ids` already ends with; `over`
    bool `[B]`: rows that are finished with them. `UserError` if a token was chosen from logits that are no numbers;
    `attached`: the method at work, which may have made them.
    """
    width = given["input_ids"].shape[1] - done
    watch = Watch(width)
    steps = [watch, *processors(decoding, [_draw(s.draft) for s in samples], width)]
    stop = view.stop_ids  # read now: inside, the model's own generation config, which names them, is put aside
    with _plain_config(view, max(limits) - done, decoding):
        out = view.lm.generate(
            **given,
            past_key_values=cache,
            logits_processor=LogitsProcessorList(steps),
            stopping_criteria=StoppingCriteriaList([_OwnEnd(width, limits, stop, view.device, over)]),
        )
    first = watch.first(len(samples))
    if min(first) < NEVER:
        rows = out.sequences.tolist()
        cut = _begin(rows, given["input_ids"][0, :width].tolist())
        for sample, row, limit, step in zip(samples, rows, limits, first, strict=True):
            if step < len(_trim(row[cut:], limit, stop)):  # what a batch computes behind a row's end is nobody's answer
                raise _nonfinite(view, sample, attached, step)
    return out


def _begin(rows: Sequence[list[int]], prompt: list[int]) -> int:
    """Where new ids begin: the library leaves the prompt out where it was given as embeddings."""
    return len(prompt) if rows[0][: len(prompt)] == prompt else 0


def _nonfinite(view: View, sample: Sample, attached: Attached | None, step: int) -> UserError:
    def given(method: Attached | None) -> dict[str, Any]:
        inputs = collate(view, [sample])
        if method is None:
            return {**inputs.prefill(), "use_cache": False}
        return {**method.begin(inputs).prefill(), "past_key_values": method.new_cache(), "use_cache": True}

    where = f"the logits of new token {step} of an answer"
    return blame(view, given, attached, where)


def generations(
    view: View, samples: Sequence[Sample], rows: Sequence[list[int]], limits: Sequence[int], cache: Any,
    decoding: Decoding, attached: Attached | None, begun: Sequence[Counts | None] = (),
) -> list[Generation]:  # fmt: skip
    """The answers from rows of new ids (padded behind their ends) and the cache that the batch left."""
    stop = view.stop_ids
    new = [_trim(row, n, stop) for row, n in zip(rows, limits, strict=True)]
    usage = _counted(samples, new, attached, begun)
    logical, physical = _bytes_held(samples, new, cache, attached, usage, _beams(decoding))
    return [
        _generation(view, s, row, stop, size, physical, counts)
        for s, row, size, counts in zip(samples, new, logical, usage, strict=True)
    ]


def _counted(
    samples: Sequence[Sample], new: Sequence[list[int]], attached: Attached | None, begun: Sequence[Counts | None] = ()
) -> list[tuple[Counts, ...]]:
    """What each sample read, one by one: its question where it is read so, and all new tokens but the last."""
    steps = [s.tail + len(row) - 1 for s, row in zip(samples, new, strict=True)]
    counts = attached.counted(steps) if attached is not None else None
    if not counts:
        return [()] * len(samples)
    if begun:
        counts = [c if first is None else c.after(first) for c, first in zip(counts, begun, strict=True)]
    return [(c.everywhere() if s.rewritten else c,) for c, s in zip(counts, samples, strict=True)]


def _bytes_held(
    samples: Sequence[Sample], new: Sequence[list[int]], cache: Any, attached: Attached | None,
    usage: Sequence[tuple[Counts, ...]], beams: int,
) -> tuple[list[int], int]:  # fmt: skip
    """Bytes of keys and values of every sample, and of the batch's caches for one sample; second streams included."""
    streams = [stream.held for stream in attached.streams] if attached is not None else []
    held = [c[0].held for c in usage for _ in range(beams)] if all(usage) else None
    kept = cache_bytes.logical(
        cache, [len(s) + len(row) - 1 for s, row in zip(samples, new, strict=True) for _ in range(beams)], held
    )
    totals = [size * beams for size in kept[::beams]]
    for other, lengths in streams:
        each = [n + len(row) - 1 for n, row in zip(lengths, (r for r in new for _ in range(beams)), strict=True)]
        totals = [a + b * beams for a, b in zip(totals, cache_bytes.logical(other, each)[::beams], strict=True)]
    return totals, cache_bytes.physical(cache, *(other for other, _ in streams)) // len(samples)


def _draw(draft: Draft) -> str:
    """The name under which an answer is drawn: the example's, and how many answers came before it in its conversation
    (else every turn would meet the same noise).
    """
    turn = 0 if isinstance(draft.prompt, str) else sum(m["role"] == "assistant" for m in draft.prompt)
    return f"{draft.id}\0{turn}" if turn else draft.id


def _generation(
    view: View, sample: Sample, row: list[int], stop: Sequence[int], logical: int | None = None,
    physical: int | None = None, usage: tuple[Counts, ...] = (),
) -> Generation:  # fmt: skip
    ended = bool(row) and row[-1] in stop
    return Generation(
        text=view.tokens.decode(row[:-1] if ended else row),
        ids=tuple(row),
        n_prompt=len(sample),
        n_new=len(row),
        finish="stop" if ended else "length",
        kv_bytes_logical=logical,
        kv_bytes_physical=physical,
        usage=usage,
    )


# -- a beginning that prompts share -----------------------------------------------------------------------------------


def _can_share(view: View, samples: Sequence[Sample], attached: Attached | None, decoding: Decoding) -> bool:
    """Whether every prompt begins with a picture, and neither the search nor the method stands in the way."""
    if view.vision is None or view.vision.reads_text or decoding.search == "beam":
        return False
    if not all(s.draft.image_key for s in samples):
        return False
    if attached is not None and (not attached.method.prefix_safe or attached.method.tracks_keys):
        return False
    image = view.vision.image_token_id
    # one token behind the picture would look like a decode step to a method
    return all(0 < s.prefix(image) < len(s) - 1 for s in samples)


def _shared(
    view: View, samples: Sequence[Sample], limits: Sequence[int], attached: Attached | None, decoding: Decoding
) -> list[Generation]:
    """One prefill for each picture, then the rest of the prompts, equal lengths together so that nothing is padded."""
    assert view.vision is not None
    image = view.vision.image_token_id
    ends = [s.prefix(image) for s in samples]
    names = [(s.draft.image_key, s.ids[:end]) for s, end in zip(samples, ends, strict=True)]
    firsts = {name: i for i, name in reversed(list(enumerate(names)))}
    caches = _prefixes(view, {name: _cut(samples[i], ends[i]) for name, i in firsts.items()}, attached)
    groups: dict[tuple[int, int], list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault((ends[i], len(sample)), []).append(i)
    done: dict[int, Generation] = {}
    for members in groups.values():
        begun = [caches[names[i]] for i in members]
        prefix = _stack([rows for rows, _ in begun], _empty(view, attached))
        part, counts = [samples[i] for i in members], [c for _, c in begun]
        answers = _batch(view, part, [limits[i] for i in members], attached, decoding, prefix, counts)
        done |= dict(zip(members, answers, strict=True))
    return [done[i] for i in range(len(samples))]


def _cut(sample: Sample, end: int) -> Sample:
    return Sample(sample.ids[:end], sample.draft, sample.tensors)


def _prefixes(
    view: View, wanted: dict[Any, Sample], attached: Attached | None
) -> dict[Any, tuple[list[tuple[Tensor, Tensor]], Counts | None]]:
    """Keys and values `[1, H_kv, T, D]` of every layer, and what was read for them, for each beginning."""
    found: dict[Any, tuple[list[tuple[Tensor, Tensor]], Counts | None]] = {}
    lengths: dict[int, list[Any]] = {}
    for name, sample in wanted.items():
        lengths.setdefault(len(sample), []).append(name)
    for names in lengths.values():
        inputs: Inputs = collate(view, [wanted[name] for name in names])
        cache = DynamicCache(config=view.config)
        if attached is None:
            view.lm(**inputs.prefill(), past_key_values=cache, use_cache=True, logits_to_keep=1)
        else:
            with attached.prefix():
                view.lm(**inputs.prefill(), past_key_values=cache, use_cache=True, logits_to_keep=1)
        counts = attached.counted([0] * len(names)) if attached is not None else None
        for b, name in enumerate(names):
            rows = [(k[b : b + 1], v[b : b + 1]) for k, v in map(_pair, cache.layers)]
            found[name] = rows, counts[b] if counts else None
    return found


def _empty(view: View, attached: Attached | None) -> Any:
    """A cache as the method wants it (a second stream follows it)."""
    own = attached.new_cache() if attached is not None else None
    return DynamicCache(config=view.config) if own is None else own


def _stack(rows: Sequence[Sequence[tuple[Tensor, Tensor]]], cache: Any) -> Any:
    """`cache` with several beginnings of one length in it."""
    for i in range(len(rows[0])):
        cache.update(torch.cat([row[i][0] for row in rows]), torch.cat([row[i][1] for row in rows]), i)
    return cache


def _pair(layer: Any) -> tuple[Tensor, Tensor]:
    """Keys and values of a layer of a cache."""
    return layer.keys, layer.values


# -- the library's call -----------------------------------------------------------------------------------------------


def _beams(decoding: Decoding) -> int:
    return decoding.num_beams if decoding.search == "beam" else 1


class _OwnEnd(StoppingCriteria):
    """A row is finished at a stop id or at its own number of new tokens. A beam search asks about several rows each."""

    def __init__(
        self, prompt: int, limits: Sequence[int], stop: Sequence[int], device: Any, over: Tensor | None = None
    ) -> None:
        self.full = torch.tensor(limits, device=device) + prompt
        if over is not None:  # rows that were finished before
            self.full = self.full.masked_fill(over, 0)
        self.stop = torch.tensor(stop, device=device, dtype=torch.long)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        full = self.full.repeat_interleave(input_ids.shape[0] // len(self.full))
        return (full <= input_ids.shape[1]) | torch.isin(input_ids[:, -1], self.stop)


@contextmanager
def _plain_config(view: View, max_new_tokens: int, decoding: Decoding) -> Iterator[None]:
    """Only our own settings inside; the model's generation config is back afterwards, whatever happens."""
    kept = view.lm.generation_config
    view.lm.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=_beams(decoding),
        max_new_tokens=max_new_tokens,
        pad_token_id=view.pad_id,
        bos_token_id=view.tokenizer.bos_token_id,
        eos_token_id=view.stop_ids or None if _beams(decoding) > 1 else None,
        use_cache=True,
        return_dict_in_generate=True,
    )
    try:
        yield
    finally:
        view.lm.generation_config = kept


def _trim(row: list[int], limit: int, stop: Sequence[int]) -> list[int]:
    """The part of a generated row that belongs to its own answer."""
    for i, token in enumerate(row[:limit]):
        if token in stop:
            return row[: i + 1]
    return row[:limit]
