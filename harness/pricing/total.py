"""The price of a whole plan in one process: what its cells compute once for several of them, and what that saves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.plan.cells import Cell
from harness.plan.sharing import groups, route
from harness.pricing.model import Model
from harness.pricing.price import Price, Pricing
from harness.pricing.speed import LOAD, SETTLE
from harness.pricing.work import Memory
from harness.running.settings import RunSettings


@dataclass(frozen=True)
class Saving:
    """What is computed once for several cells or prompts: operations and seconds that it leaves out."""

    flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Saving) -> Saving:
        return Saving(self.flops + other.flops, self.seconds + other.seconds)


@dataclass(frozen=True)
class Total:
    """Of cells that one process runs. Sums are over what is known: `unsized` cells are counted nowhere, `untimed` ones
    have no seconds.
    """

    prices: tuple[Price, ...]
    groups: tuple[tuple[Price, ...], ...]  # cells that share a dense prefill
    saving: Saving
    start: float  # seconds until the process could load a model
    load: dict[str, float]  # seconds to load each model that has work

    @cached_property
    def todo(self) -> tuple[Price, ...]:
        return tuple(p for p in self.prices if p.todo)

    @property
    def unsized(self) -> int:
        return sum(p.cost is None for p in self.todo)

    @property
    def untimed(self) -> int:
        return sum(p.seconds is None for p in self.todo)

    @property
    def seconds_start(self) -> float:
        return self.start + sum(self.load.values()) if self.todo else 0.0

    @property
    def seconds_samples(self) -> float:
        return sum(p.seconds_samples or 0.0 for p in self.todo) - self.saving.seconds

    @property
    def seconds_beside(self) -> float:
        return sum(p.seconds_beside or 0.0 for p in self.todo)

    @property
    def seconds(self) -> float:
        """In one process, sharing."""
        return self.seconds_start + self.seconds_samples + self.seconds_beside

    @property
    def seconds_unshared(self) -> float:
        """In one process that computes everything for each cell."""
        return self.seconds + self.saving.seconds

    @property
    def seconds_apart(self) -> float:
        """With a process for each cell."""
        starts = sum(self.start + self.load[p.cell.model_label] for p in self.todo)
        return self.seconds_unshared - self.seconds_start + starts

    @property
    def heaviest(self) -> tuple[Memory, Price] | None:
        """The most memory that any cell needs, and which one."""
        together = {p.cell.run_id: len(group) for group in self.groups for p in group}
        found = [(p.cost.memory(p.model, together.get(p.cell.run_id, 1)), p) for p in self.todo if p.cost and p.model]
        return max(found, key=lambda pair: pair[0].total) if found else None


def total(pricing: Pricing, cells: Sequence[Cell], shards: int = 1) -> Total:
    """Price `cells` as one process would run them, alone or as one of `shards` processes for all of them."""
    prices = tuple(pricing.price(c, shards) for c in cells)
    todo = [p for p in prices if p.todo]
    together, saving = [], Saving()
    for same in _by_task(todo):
        for group in _side_by_side(same, pricing.settings):
            together.append(tuple(group))
            saving += _prefill_once(group)
        if pricing.settings.share:
            saving += _pictures_once(same)
    load = {p.cell.model_label: _load(p.model) for p in todo}
    return Total(prices, tuple(together), saving, pricing.speeds.start(), load)


def _load(m: Model | None) -> float:
    return 0.0 if m is None else m.weight_bytes / LOAD + (0.0 if m.device == "cpu" else SETTLE)


def _by_task(prices: Sequence[Price]) -> Iterator[list[Price]]:
    found: dict[tuple[str, str], list[Price]] = {}
    for p in prices:
        found.setdefault((p.cell.model_label, p.cell.task_label), []).append(p)
    yield from found.values()


def _side_by_side(prices: Sequence[Price], settings: RunSettings) -> Iterator[list[Price]]:
    """Cells of one model and task that go on from one prefill: two or more, read by a model without eyes."""
    by_id = {p.cell.run_id: p for p in prices}
    for group in groups([p.cell for p in prices], settings.decoding, settings.share):
        chosen = [by_id[c.run_id] for c in group]
        blind = chosen[0].model is None or chosen[0].model.eyes is None
        if len(chosen) > 1 and blind and route(group[0], settings.decoding):
            yield chosen


def _prefill_once(group: Sequence[Price]) -> Saving:
    """All prefills but the longest."""
    priced = [(p, p.cost) for p in group if p.cost is not None]
    flops = [p.left * c.prefill.flops for p, c in priced]
    seconds = [p.left * c.seconds_prefill * (p.ratio or 0.0) for p, c in priced]
    return Saving(sum(flops) - max(flops, default=0.0), sum(seconds) - max(seconds, default=0.0))


def _pictures_once(prices: Sequence[Price]) -> Saving:
    """Each picture is encoded once for all prompts and cells, and prompts about one picture go on from one prefill where
    the method allows it. Nothing where it is not known how many pictures there are.
    """
    saving = Saving()
    for i, p in enumerate(prices):
        if p.cost is None or p.asked is None or p.model is None or p.model.eyes is None or not p.asked.pictures:
            continue
        again = 1.0 if i else 1 - p.asked.pictures / p.asked.count
        by, ratio = p.left, p.ratio or 0.0
        saving += Saving(by * again * p.cost.encode.flops, by * again * ratio * p.cost.seconds_encode)
        method = p.cell.method
        alike = method.prefix_safe and method.batching == "any" and not p.model.eyes.reads_text
        if alike and not (method.rewrites_prompt or method.tracks_keys or method.searches):
            saving += Saving(by * p.cost.common.flops, by * ratio * p.cost.seconds_common)
    return saving
