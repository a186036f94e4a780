"""What each sample read, next to what dense attention would have read. One unit is one (query, key) pair of one head.

Usage is a property of the sample: padding is no key and no row, steps that a batch makes after a sample's own end are not
the sample's, a prefix that several prompts share belongs to each of them, and the beams of a sample are averaged. So a
sample's numbers are the same alone and in any batch. The forwards are written down by `Tally`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.attention.tally import PHASES, Held, Tally

Numbers = Mapping[str, int]  # by phase


@dataclass(frozen=True)
class Counts:
    """One sample's share of the forwards of one request. Pairs and rows are sums over layers, heads and beams."""

    read: Numbers  # pairs
    visible: Numbers  # pairs that dense attention would have read
    rows: Numbers  # query rows x heads x layers
    calls: Numbers  # (step, layer) calls; a prompt is one step, in however many pieces it was read
    changed: Numbers  # those of them in which what is read, or what is computed, differed from dense
    prompt: frozenset[int] = frozenset()  # layers that differed while the prompt was read
    layers: frozenset[int] = frozenset()  # layers with attention
    acted: frozenset[int] = frozenset()  # layers that differed in any step
    touched: frozenset[int] = frozenset()  # layers in which a hook did something, whatever came of it
    held: Mapping[int, Held] = field(default_factory=dict)  # layer -> its cache after the last step
    seen: int = 0  # tokens read
    key_bytes: int = 0  # of one key and its value, over all layers and key heads
    simulated: bool = False
    reported: Mapping[str, tuple[float, int]] = field(default_factory=dict)  # what the method reports: sum, how often

    def after(self, prefix: Counts) -> Counts:
        """The same request with a beginning that was computed before it, for several prompts at once."""
        prompt = self.prompt | prefix.prompt
        return replace(
            self,
            read=_sum(self.read, prefix.read),
            visible=_sum(self.visible, prefix.visible),
            rows=_sum(self.rows, prefix.rows),
            changed={**self.changed, "prefill": len(prompt)},
            prompt=prompt,
            acted=self.acted | prefix.acted,
            touched=self.touched | prefix.touched,
            simulated=self.simulated or prefix.simulated,
        )

    def everywhere(self) -> Counts:
        """The same sample where the whole input differs from dense's (another prompt, other positions)."""
        return replace(self, changed=self.calls, prompt=self.layers, acted=self.layers)


class Usage:
    """Everything since the last reset: finished samples, and the tallies of requests that nobody has counted yet."""

    def __init__(self) -> None:
        self.done: list[Counts] = []
        self.earlier: list[Tally] = []
        self.tally = Tally()  # of the request that is running

    def next_request(self) -> None:
        """A new prompt comes. The clock may be running, so the last one is put aside as it is."""
        if self.tally.steps or self.tally.early:
            self.earlier.append(self.tally)
        self.tally = Tally()

    def counted(self, samples: int, steps: Sequence[int]) -> list[Counts]:
        """End the request that is running: the counts of its samples, `steps[b]` decode steps of each."""
        found = _counts(self.tally, samples, steps)
        self.tally = Tally()
        self.done += found
        return found

    def tell(self, name: str, value: Any) -> None:
        """A number that the method reports: see `Call.count`."""
        self.tally.tell(name, value)

    def report(self) -> dict[str, Any]:
        """The report of everything since the last reset. Forwards that nobody counted count with all rows and steps."""
        rest = [one for tally in (*self.earlier, self.tally) for one in _counts(tally)]
        return report([*self.done, *rest])


def _counts(tally: Tally, samples: int | None = None, steps: Sequence[int] | None = None) -> list[Counts]:
    """One for each sample of a request: see `Tally.close`."""
    found = [Counts(**facts) for facts in tally.close(samples, steps)]
    return [one.everywhere() for one in found] if tally.everywhere else found


def report(counts: Sequence[Counts]) -> dict[str, Any]:
    """Measured usage of one or more requests; None where the phase did not occur.

    `pairs_*`: sums over layers and heads. `density*`: share of the visible pairs that was read. `keys_read`: mean number
    of keys that a head reads in one decode step, `keys_read_prefill` for one row of the prompt (sinks, recent keys and
    the own block counted); `bytes_read`: keys and values of these in one decode step, over all layers. `kv_tokens_kept`:
    mean over layers of the keys in the cache after the last step of the longest request, `kv_tokens_seen` what an
    uncompressed cache would hold, `kv_share` their ratio. `changed`: share of the (step, layer) calls in which what was
    read or computed differed from dense, `phases` in which that happened, `layers_dense` in which it never did; the
    language head is one more layer for methods that edit logits.
    """
    read, visible, rows = (_sum(*(getattr(c, key) for c in counts)) for key in ("read", "visible", "rows"))
    calls, changed = (_sum(*(getattr(c, key) for c in counts)) for key in ("calls", "changed"))
    layers, acted, touched = (_union(getattr(c, key) for c in counts) for key in ("layers", "acted", "touched"))
    keys = _ratio(read["decode"], rows["decode"])
    kept, seen = _cache(counts)
    return {
        "layers_touched": sorted(touched),
        "layers_dense": sorted(layers - acted),
        "phases": [phase for phase in PHASES if changed[phase]],
        "changed": _ratio(sum(changed.values()), sum(calls.values())),
        "pairs_read": sum(read.values()),
        "pairs_visible": sum(visible.values()),
        "density": _ratio(sum(read.values()), sum(visible.values())),
        "density_prefill": _ratio(read["prefill"], visible["prefill"]),
        "density_decode": _ratio(read["decode"], visible["decode"]),
        "keys_read": keys,
        "keys_read_prefill": _ratio(read["prefill"], rows["prefill"]),
        "bytes_read": None if keys is None else keys * max(c.key_bytes for c in counts),
        "kv_tokens_kept": kept,
        "kv_tokens_seen": seen,
        "kv_share": None if kept is None or not seen else kept / seen,
        "simulated": any(c.simulated for c in counts),
        **_reported(counts),
    }


def of_sample(counts: Sequence[Counts]) -> dict[str, Any]:
    """What stands in a sample's record: the report of all its requests, without the sums."""
    return {key: value for key, value in report(counts).items() if not key.startswith("pairs_")}


def _cache(counts: Sequence[Counts]) -> tuple[float | None, int | None]:
    """Mean number of keys in a layer's cache, and tokens read, where most tokens were read."""
    seen = max((c.seen for c in counts if c.held), default=None)
    kept = [held.keys for c in counts if c.seen == seen for held in c.held.values()]
    return (sum(kept) / len(kept), seen) if kept else (None, None)


def _reported(counts: Sequence[Counts]) -> dict[str, float]:
    found: dict[str, list[tuple[float, int]]] = {}
    for c in counts:
        for name, part in c.reported.items():
            found.setdefault(name, []).append(part)
    sums = {name: (sum(s for s, _ in parts), sum(n for _, n in parts)) for name, parts in sorted(found.items())}
    return {f"method_{name}": total / n for name, (total, n) in sums.items() if n}


def _sum(*parts: Numbers) -> dict[str, int]:
    return {phase: sum(part[phase] for part in parts) for phase in PHASES}


def _union(sets: Iterable[frozenset[int]]) -> frozenset[int]:
    return frozenset().union(*sets)


def _ratio(a: int, b: int) -> float | None:
    return a / b if b else None
