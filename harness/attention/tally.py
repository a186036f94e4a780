"""The forwards of one request, written down while they run and counted when it is over.

While the model runs, a layer call that a method left alone costs one number in a list: nothing is computed that a device
would have to be waited for, and what dense attention would read is not computed at all. What does not change about a layer
is noted in the first forward. At the end the attention mask tells how many real tokens came before every position of every
sample, and from that everything follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

PHASES = ("prefill", "decode")
Window = int | None
NOTHING: tuple[Any, Any, Any, Any] = ([], []), ([], []), [], ([], [])  # packed: nothing read less, edited or reported
# name, sums and numbers of values: tensors or arrays by row, or one number for all rows
Reported = tuple[str, Any, Any]


class Held(NamedTuple):
    """What a layer's cache holds of a sample: keys, and the names of what a method remembers beside them."""

    keys: int
    state: tuple[Any, ...] = ()


class Layer(NamedTuple):
    """What does not change about a layer while a request runs."""

    window: Window
    heads: int
    key_bytes: int  # of one key and its value, all key heads
    room: int | None  # keys that its cache keeps at most; None: all


@dataclass(eq=False, slots=True)
class Step:
    """One forward over `n` new positions from `start` on."""

    rows: int
    start: int
    n: int
    layers: list[int] = field(default_factory=list)  # of each call
    # of the layers whose cache a method may cut: what it holds afterwards
    held: dict[int, Held] = field(default_factory=dict)
    # place in `layers`, pairs of each row for one head: what the model shows where positions alone do not tell
    shown: list[tuple[int, Any]] = field(default_factory=list)
    reads: list[tuple[int, Any]] = field(default_factory=list)  # place in `layers`, pairs of each row over all heads
    edits: list[tuple[int, Any]] = field(default_factory=list)  # layer, bool [rows]: what a hook changed
    reported: list[Reported] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    packed: tuple[Any, Any, Any, Any] | None = None

    @property
    def is_decode(self) -> bool:
        return self.n == 1 and self.start > 0

    def pack(self) -> None:
        """When the forward is over: one tensor for all layers, where there was one for each."""
        if self.packed is None:
            some = self.reads or self.edits or self.reported or self.shown
            self.packed = self._packed() if some else NOTHING

    def _packed(self) -> tuple[Any, Any, Any, Any]:
        return _stacked(self.reads), _stacked(self.edits), _summed(self.reported), _stacked(self.shown)


@dataclass(eq=False)
class Tally:
    """What one request read. `rows` of a forward are its samples, or its samples' beams."""

    steps: list[Step] = field(default_factory=list)
    mask: Tensor | None = None  # [rows, positions]: the last attention mask
    layers: dict[int, Layer] = field(default_factory=dict)
    simulated: bool = False
    everywhere: bool = False  # the whole input differs from dense's
    head: bool = False
    early: list[Reported] = field(default_factory=list)  # reported before the first forward

    def forward(self, rows: int, start: int, n: int, mask: Tensor | None, head: bool = False) -> Step:
        """A forward of `rows` over `n` positions from `start` on begins, under this attention mask; `head`: the method edits
        logits, so the language head is one more layer.
        """
        if self.steps:
            self.steps[-1].pack()
        self.head, self.mask = head, mask
        step = Step(rows, start, n)
        self.steps.append(step)
        return step

    def edit(self, layer: int, new: Tensor, old: Tensor, own: Tensor | None = None) -> None:
        """A hook gave `new` for `old`, the rows first. `own` bool `[rows, R]`: which query rows (dimension 2) count."""
        step = self.steps[-1]
        step.touched.add(layer)
        if new is old:
            return
        other = new != old
        if own is not None:
            other = other.any(-1) & own[:, None]
        step.edits.append((layer, other.flatten(1).any(1)))

    def tell(self, name: str, value: Any) -> None:
        """A number that the method reports: a tensor with a row for each row of the forward first (NaN: no value), or a
        number that holds for all of them.
        """
        total: Any = value
        n: Any = 1
        if torch.is_tensor(value):
            total = value.detach().float()
            if total.dim() > 1:
                total = total.flatten(1)
                n = (~total.isnan()).sum(1)
                total = total.nansum(1)
        (self.steps[-1].reported if self.steps else self.early).append((name, total, n))

    # -- the end --------------------------------------------------------------------------------------------------------

    def close(self, samples: int | None, steps: Sequence[int] | None) -> Iterator[dict[str, Any]]:
        """The fields of `Counts` for each sample. `steps[b]`: decode steps that belong to sample b; None: all."""
        if not self.steps and not self.early:
            return
        n = samples or min((s.rows for s in self.steps), default=1)
        tokens = self._tokens(n)
        own = np.full(n, len(self.steps)) if steps is None else np.asarray(steps)
        parts: list[_Part] = []
        done = 0
        for step in self.steps:
            step.pack()
            if step.layers:
                parts.append(_Part(step, self.layers, tokens, n, done if step.is_decode else -1))
                done += step.is_decode
        early = _by_sample_reported(_summed(self.early), n)
        for b in range(n):
            yield self._counts([part for part in parts if part.number < own[b]], early, b)

    def _tokens(self, n: int) -> Any:
        """int64 `[n, positions + 1]`: real tokens before each position."""
        end = max((s.start + s.n for s in self.steps), default=0)
        if self.mask is None:
            return np.broadcast_to(np.arange(end + 1), (n, end + 1))
        mask = self.mask[:: max(1, len(self.mask) // n), :end].to(torch.int64).cpu().numpy()
        mask = np.pad(mask, ((0, 0), (0, end - mask.shape[1])), constant_values=1)
        return np.pad(mask.cumsum(1), ((0, 0), (1, 0)))

    def _counts(self, mine: list[_Part], early: list[Reported], b: int) -> dict[str, Any]:
        found: dict[str, dict[str, int]] = {k: dict.fromkeys(PHASES, 0) for k in ("read", "visible", "rows", "calls")}
        changed, acted, prompt, touched, layers = 0, set(), set(), set(), set()
        for part in mine:
            for key, values in (("read", part.read), ("visible", part.visible), ("rows", part.rows)):
                found[key][part.phase] += int(values[b])
            differs = set(part.changed[b])
            touched |= part.step.touched
            layers |= part.layers
            acted |= differs
            if part.number < 0:
                prompt |= differs
            else:
                changed += len(differs)
                found["calls"]["decode"] += len(part.layers) + self.head
        if any(part.number < 0 for part in mine):
            found["calls"]["prefill"] = len(layers) + self.head
        layers |= {max(layers) + 1} if self.head and layers else set()
        facts: dict[str, Any] = {
            **found, "changed": {"prefill": len(prompt), "decode": changed}, "prompt": frozenset(prompt),
            "acted": frozenset(acted), "touched": frozenset(touched), "layers": frozenset(layers),
            "key_bytes": sum(one.key_bytes for one in self.layers.values()), "simulated": self.simulated,
            "reported": _reported([early, *(part.reported for part in mine)], b),
        }  # fmt: skip
        if mine:
            seen = mine[-1].seen[b]
            facts |= {"seen": int(seen), "held": self._held(mine[-1].step, int(seen))}
        return facts

    def _held(self, step: Step, seen: int) -> dict[int, Held]:
        """What the caches hold of a sample after a step in which it had read `seen` tokens."""
        found = {}
        for i in step.layers:
            room = self.layers[i].room
            all_keys = Held(step.start + step.n if room is None else min(step.start + step.n, room))
            one = step.held.get(i, all_keys)
            found[i] = Held(min(one.keys, seen), one.state)
        return found


class _Part:
    """One step, counted for every sample: arrays `[samples]`. `number`: which decode step it is, -1 in the prompt."""

    def __init__(self, step: Step, layers: dict[int, Layer], tokens: Any, n: int, number: int) -> None:
        self.step, self.number = step, number
        self.phase = "decode" if number >= 0 else "prefill"
        self.layers = set(step.layers)
        windows = [layers[i].window for i in step.layers]
        beams = step.rows // n
        before, self.seen = tokens[:, step.start], tokens[:, step.start + step.n]
        areas = {w: _area(self.seen, w) - _area(before, w) for w in set(windows)}
        heads = np.array([layers[i].heads for i in step.layers]) * beams
        visible = np.stack([areas[w] for w in windows]) * heads[:, None]  # [layers, samples]
        assert step.packed is not None
        for place, pairs in zip(*_by_sample(step.packed[3], n), strict=True):
            visible[place] = pairs * layers[step.layers[place]].heads
        read = visible.copy()
        places, reads = _by_sample(step.packed[0], n)
        for place, pairs in zip(places, reads, strict=True):
            read[place] = pairs
        self.read, self.visible = read.sum(0), visible.sum(0)
        self.rows = (self.seen - before) * heads.sum()
        differs = [(step.layers[place], read[place] != visible[place]) for place in places]
        differs += zip(*_by_sample(step.packed[1], n), strict=True)
        self.reported = _by_sample_reported(step.packed[2], n)
        self.changed = [{layer for layer, which in differs if which[b]} for b in range(n)]


def _area(n: Any, window: Window) -> Any:
    """Sum of min(t, window) for t = 1..n: pairs that dense attention reads over the first n tokens, for one head."""
    w = n if window is None else np.minimum(n, window)
    return w * (w + 1) // 2 + (n - w) * w


def _stacked(items: Sequence[tuple[int, Any]]) -> tuple[list[list[int]], list[Any]]:
    """(keys, values): the values of one device as one `[k, rows]`, lists as one array."""
    keys: list[list[int]] = []
    values: list[Any] = []
    groups: dict[Any, list[tuple[int, Any]]] = {}
    for key, value in items:
        groups.setdefault(value.device if torch.is_tensor(value) else None, []).append((key, value))
    for device, members in groups.items():
        keys.append([key for key, _ in members])
        rows = [value for _, value in members]
        values.append(np.array(rows) if device is None else torch.stack(rows))
    return keys, values


def _by_sample(packed: Any, n: int) -> tuple[list[int], list[Any]]:
    """Keys, and for each an int64 array `[samples]`: sums over the beams of a sample."""
    keys: list[int] = []
    found: list[Any] = []
    for part, values in zip(*packed, strict=True):
        rows = values.cpu().numpy() if torch.is_tensor(values) else values
        keys += part
        found += list(rows.astype(np.int64).reshape(len(part), n, -1).sum(2))
    return keys, found


def _summed(reported: Sequence[Reported]) -> list[Reported]:
    """One entry for each name (and kind of value): the sum over layers."""
    found: dict[Any, list[Reported]] = {}
    for one in reported:
        shape = (one[1].shape, one[1].device) if torch.is_tensor(one[1]) else None
        found.setdefault((one[0], shape, torch.is_tensor(one[2])), []).append(one)
    return [(members[0][0], _total([s for _, s, _ in members]), _total([n for _, _, n in members]))
            for members in found.values()]  # fmt: skip


def _total(values: list[Any]) -> Any:
    return torch.stack(values).sum(0) if torch.is_tensor(values[0]) else sum(values)


def _by_sample_reported(reported: Sequence[Reported], n: int) -> list[Reported]:
    """The same as arrays `[n]`: sums over the rows of a sample; what does not come in rows holds for every sample."""
    found = []
    for name, total, count in reported:
        in_rows = torch.is_tensor(total) and total.dim() > 0 and len(total) % n == 0
        each = len(total) // n if in_rows else 1
        counts = _of_samples(count, n) if torch.is_tensor(count) and in_rows else np.full(n, _mean(count) * each)
        found.append((name, _of_samples(total, n) if in_rows else np.full(n, _mean(total)), counts))
    return found


def _of_samples(value: Tensor, n: int) -> Any:
    return value.double().cpu().numpy().reshape(n, -1).sum(1)


def _mean(value: Any) -> float:
    return float(value.double().mean()) if torch.is_tensor(value) else float(value)


def _reported(parts: Sequence[list[Reported]], b: int) -> dict[str, tuple[float, int]]:
    """name -> (sum, how many) for sample b."""
    found: dict[str, tuple[float, int]] = {}
    for name, total, count in (one for part in parts for one in part):
        s, c = found.get(name, (0.0, 0))
        found[name] = s + float(total[b]), c + int(count[b])
    return found
