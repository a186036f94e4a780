"""Presses of kvpress (Devoto, Jeblick, Jegou 2025, arXiv 2510.00636; NVIDIA/kvpress) as one method.

`press` names a class of the library, which then decides, layer by layer, what stays in the cache; the harness calls its
hook where its own cache methods edit the cache, so keys and bytes are counted as theirs are. What differs from
`with press(model)`:

* Keys stay in order and at their true positions. Which ones stayed is found by their bits. Attention over a set of keys
  does not depend on their order, so answers are the library's up to rounding, and up to ties: a press that acts at every
  step may meet equal scores (one token twice has keys of one norm in layer 0), and their order decides.
* Every sample is pressed alone, because some presses mix the samples of a batch, and random numbers are seeded by
  the prompt and the layer.
* Head-wise presses (AdaKV) free no memory in the library, which hides keys behind fake ones. Here the heads read less
  (`select`), exactly, and the memory is counted as full.
* KeyRerotationPress numbers the kept keys from 0, for a pipeline that goes on counting from there. Here queries keep
  their true positions, so the keys are moved behind the dropped ones: equal distances, hence equal attention.
* With `question: prefill` the question is part of the prompt when the cache is compressed (`query_aware: true` in the
  library's benchmark). Its own default is false: the press runs over the context alone, question and answer read what is
  left. That is `question: decode`, the choice of preset `paper`. The library reads the question in one forward, here it is
  read token by token; the keys that it sees are the same, but for presses that also act while decoding.

A press that wraps others gets them in `kwargs`, by name or as a mapping with the key `name`:
`press: AdaKVPress, kwargs: {press: {name: SnapKVPress, window_size: 16}}`. Prompts of equal length in a batch, or one at a
time where what stays depends on the text.
"""

from __future__ import annotations

import copy
import json
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from harness.contracts.call import Call
from harness.contracts.method import AfterContext
from harness.errors import UserError
from methods.cache import kvpress_library as library
from methods.cache.kept_columns import columns
from methods.cache.rows import with_new
from methods.cache.streaming_kv import LENGTH_DEPENDENT, rotated

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

PROOF = 2  # decode steps on which a cell proves that its method acts


class Options(dict[str, Any]):
    """Keyword arguments as a value: equal ones hash alike."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True, default=str))


@dataclass(frozen=True)
class Pressed:
    """What a press left of one sample in one layer."""

    columns: Tensor  # int64 [H_kv, n'], ascending
    changed: tuple[Tensor, Tensor] | None = None  # keys and values [H_kv, n', D] of the columns, if they are new
    hidden: Any = None  # head-wise mask: index tensors of sample, head, column


@dataclass(frozen=True, kw_only=True)
class KVPress(AfterContext):
    """Cache compression by a press of kvpress."""

    name = "kvpress"
    title = "kvpress: a press of NVIDIA's library (optional package)"
    paper = "2510.00636"
    search = frozenset({"greedy", "sample"})
    budget_unit = "share of the prompt's keys that are dropped"
    batching = "equal"
    options = {
        "press": "class of kvpress: SnapKVPress, KnormPress, TOVAPress, ExpectedAttentionPress, PyramidKVPress, ...",
        "compression_ratio": "share of the keys that is dropped, below 1; null for presses that have none",
        "kwargs": "other options of the press, by their names there; presses that it wraps by name",
        "version": "of kvpress; null: the installed one. Part of the run id",
    } | AfterContext.options

    press: str = "SnapKVPress"
    compression_ratio: float | None = 0.5
    kwargs: Mapping[str, Any] | None = None
    version: str | None = None
    question: Literal["prefill", "decode"] = "decode"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "kwargs", Options(self.kwargs or {}))
        object.__setattr__(self, "version", self.version or library.version())
        if self._holds(library.RAGGED):
            object.__setattr__(self, "batching", "one")

    # ------------------------------------------------------------------------------------------------------ facts

    @property
    def own(self) -> Mapping[str, Any]:
        """The press's own options."""
        return self.kwargs or {}

    def _holds(self, presses: Sequence[str]) -> bool:
        """Whether one of `presses` is at work, alone or inside another."""
        return bool(set(presses) & set(library.names(self.press, self.own)))

    def validate(self) -> None:
        super().validate()
        ratio, installed = self.compression_ratio, library.version()
        self.require(ratio is None or 0 <= ratio < 1, "compression_ratio", "it must be in [0, 1)")
        self.require(installed in (None, self.version), "version", f"kvpress {installed} is installed")
        self.require(
            "compression_ratio" not in self.own, "kwargs", "compression_ratio is an option of its own, beside kwargs"
        )
        library.check_names(self.press, self.own, "method.kvpress.press", "method.kvpress.kwargs")

    def check(self, view: Model) -> None:
        if library.version() is None:
            raise UserError(
                "Method 'kvpress' needs the package kvpress, which is not installed. Its metadata refuses transformers "
                f"5.3 and later although its presses work here, so install it without its requirements: "
                f"{library.INSTALL}"
            )
        if not isinstance(view.lm, library.supported()):
            known = [cls.__name__ for cls in library.supported()]
            raise UserError(
                f"kvpress {self.version} is not made for {type(view.lm).__name__}; it knows {', '.join(known)}. Use snapkv "
                "or h2o, which run on every family."
            )
        sliding = [i for i in range(view.n_layers) if view.sliding_window(i) is not None]
        if sliding:
            raise UserError(
                f"Method 'kvpress' cannot serve sliding layers (layer {sliding[0]} sees {view.sliding_window(sliding[0])} "
                "keys): its presses score keys that such a layer no longer reads. Use snapkv or h2o."
            )
        prototype(self)
        kinds = str(getattr(view.config, "rope_parameters", None) or {})
        if self.press == library.ROTATES and any(f"'{kind}'" in kinds for kind in LENGTH_DEPENDENT):
            raise UserError(f"{self.press} cannot serve this model: its rotary frequencies depend on the length.")

    def layers(self, view: Model) -> list[int]:
        """Presses that choose their layers by the text promise none."""
        if self._holds(library.LAZY):
            return []
        ratios = self.own.get("compression_ratios") or [1.0] * view.n_layers
        return [i for i, ratio in enumerate(ratios) if ratio]

    def idle(self, n: int) -> str:
        if self.compression_ratio == 0:
            return "compression_ratio 0 drops nothing; raise method.kvpress.compression_ratio"
        every = self.own.get("compression_interval", 512) if self.press in library.IN_DECODE else 0
        if every > PROOF:
            return (
                f"{self.press} drops its first key after {every} new tokens, and a cell proves on {PROOF} that its method "
                f"acts; set method.kvpress.kwargs.compression_interval to at most {PROOF}"
            )
        return ""

    # ------------------------------------------------------------------------------------------------------ hooks

    @contextmanager
    def around(self, view: Model) -> Iterator[None]:
        """Remember what each attention module was called with, while it runs: presses want more than q, k and v."""
        handles = []
        try:
            for module in map(view.attention, range(view.n_layers)):
                handles.append(module.register_forward_pre_hook(_arrive, with_kwargs=True))
                handles.append(module.register_forward_hook(_leave, always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def edit_cache(self, ctx: Call, layer_cache: Any) -> Tensor | None:
        import torch

        if ctx.q_offset > 0 and not library.works_in_decode(prototype(self)):
            return None
        keys = layer_cache.keys
        if self.batching == "one" and (keys.shape[0] > 1 or bool(ctx.n_pad.any())):
            raise UserError(f"{self.press} keeps what the text decides, so it takes one prompt at a time, not a batch.")
        done = [self._pressed(ctx, layer_cache, b) for b in range(keys.shape[0])]
        if any(one.hidden is not None for one in done):
            self._hide(ctx, keys, done)
            return None
        widths = {one.columns.shape[-1] for one in done}
        if len(widths) > 1:
            raise UserError(f"{self.press} keeps different numbers of keys in one batch; run it with batch_tokens=1.")
        kept = torch.stack([one.columns for one in done])
        if widths == {keys.shape[2]} and not any(one.changed for one in done):
            return None
        for b, one in enumerate(done):
            if one.changed is not None:
                where = kept[b, :, :, None].expand_as(one.changed[0])
                layer_cache.keys[b].scatter_(1, where, one.changed[0])
                layer_cache.values[b].scatter_(1, where, one.changed[1])
        ctx.count("kept", kept.shape[-1] / keys.shape[2])
        return kept

    def select(self, ctx: Call, q: Tensor, k: Tensor) -> Tensor | None:
        """Head-wise presses: what a key head still reads, and everything since."""
        return with_new(ctx.state["read"], ctx.state["until"], k.shape[2]) if "read" in ctx.state else None

    # ------------------------------------------------------------------------------------------------------ parts

    def _pressed(self, ctx: Call, layer_cache: Any, b: int) -> Pressed:
        """Press sample `b`."""
        batch, view = layer_cache.keys.shape[0], ctx.view
        module = view.attention(ctx.layer)
        if "presses" not in ctx.state:
            ctx.state["presses"] = [copy.deepcopy(prototype(self)) for _ in range(batch)]
            ctx.state["held"] = [library.remembered(press) for press in ctx.state["presses"]]  # counts as cache memory
            ctx.state["masks"] = [None] * batch
        presses, masks = ctx.state["presses"], ctx.state["masks"]
        old = tuple(x[b : b + 1] for x in (layer_cache.keys, layer_cache.values))
        left = SimpleNamespace(keys=old[0], values=old[1])
        presses[b].post_init_from_model(view.lm)
        rotary, given = view.rotary, _sample(_given[module], b, batch)
        masks[b], turned = library.call(
            presses[b], module, rotary, given, ctx.q_offset, left, masks[b], self._seed(ctx, b)
        )
        return _found(ctx, old, (left.keys, left.values), turned, masks[b])

    def _seed(self, ctx: Call, b: int) -> int:
        text = b"" if ctx.tokens is None else ctx.tokens[b].cpu().numpy().tobytes()
        return zlib.crc32(text, 1000 * ctx.q_offset + ctx.layer)

    def _hide(self, ctx: Call, keys: Tensor, done: Sequence[Pressed]) -> None:
        """Keep all keys, and remember which ones each key head still reads: `[B, H_kv, n]`, -1 where there is none."""
        import torch

        n = keys.shape[2]
        if any(one.columns.shape[-1] < n for one in done):
            raise UserError(f"{self.press} drops keys and hides others; heed serves presses that do one of the two.")
        read = torch.ones(keys.shape[:3], dtype=torch.bool, device=keys.device)
        for b, one in enumerate(done):
            if one.hidden is not None:
                _, heads, at = (torch.as_tensor(index, device=keys.device) for index in one.hidden)
                read[b, heads, at] = False
        listed = torch.where(read, torch.arange(n, device=keys.device), n).sort(dim=-1).values
        listed = listed[..., : int(read.sum(-1).max())]
        ctx.state["read"], ctx.state["until"] = listed.masked_fill(listed == n, -1), n
        ctx.count("kept", read.float().mean((1, 2)))


@lru_cache(maxsize=64)
def prototype(method: KVPress) -> Any:
    """The press of a method, to be copied for every sample of every layer: some remember what they have seen."""
    where = "method.kvpress.kwargs"
    press, ratio = library.make(method.press, method.own, where), method.compression_ratio
    if library.takes_ratio(press):
        if ratio is None:
            raise UserError(f"method.kvpress.compression_ratio is null, but {method.press} needs one in [0, 1).")
        press.compression_ratio = ratio
    elif ratio is not None:
        raise UserError(
            f"method.kvpress.compression_ratio={ratio}, but {method.press} has none: its options say what is dropped. Set "
            "it to null."
        )
    return press


# What attention modules were called with, while they run.
_given: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()


def _arrive(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _given[module] = {"hidden_states": args[0], **kwargs} if args else kwargs


def _leave(module: Any, args: Any, out: Any) -> None:
    _given.pop(module, None)


def _sample(given: Mapping[str, Any], b: int, batch: int) -> dict[str, Any]:
    """What a press is told about one sample."""
    cos, sin = (x[b : b + 1] if len(x) == batch else x for x in given["position_embeddings"])
    return {"hidden_states": given["hidden_states"][b : b + 1], "position_embeddings": (cos, sin)}


def _found(
    ctx: Call, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], turned: Tensor | None, hidden: Any
) -> Pressed:
    """Which columns of `old` (keys and values of one sample) are left in `new`, and what was changed about them."""
    import torch

    n = old[0].shape[2]
    if new[0] is old[0] and new[1] is old[1]:
        return Pressed(torch.arange(n, device=old[0].device).expand(old[0].shape[1], n), hidden=hidden)
    if turned is not None:  # to places counted from 0: move them behind what was dropped
        moved = rotated(new[0], ctx, n - new[0].shape[2])
        return Pressed(turned[0], (moved[0], new[1][0]), hidden)
    found = columns(old, new)
    if found is not None:
        return Pressed(found.sort(dim=-1).values, hidden=hidden)
    found = columns(old[:1], new[:1])  # values were merged
    if found is None:
        raise UserError("A press rewrote keys of the cache; heed cannot tell which ones they were.")
    found, order = found.sort(dim=-1)
    order = order[..., None]
    changed = tuple(x[0].gather(1, order.expand_as(x[0])) for x in new)
    return Pressed(found, (changed[0], changed[1]), hidden)
