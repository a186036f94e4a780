"""What a method costs, counted and not timed: forwards through the decoder, by a hook on its first layer. No noise.

One request on a micro model is answered greedily. A forward over more than one position is a prefill (or a piece of one), a
forward over one position a step; rows of a batch (beams, candidates) count each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.claims.checks.base import OfMethod, built
from harness.contracts.check import Check, Finding

if TYPE_CHECKING:
    from harness.contracts.check import Bench
    from harness.contracts.method import Method


@dataclass(frozen=True, kw_only=True)
class Forwards(OfMethod):
    """`{prefills, steps}`: forwards over prompts per request, and one-position forwards per generated token after the
    first (dense: 1 and 1).
    """

    model: str
    new: int = 6
    artifact: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def measure(self, bench: Bench) -> Finding:
        count = counted(bench, self.model, built(self.method), self.new, self.artifact)
        return Finding({"prefills": count.prefills, "steps": count.steps})


@dataclass(frozen=True, kw_only=True)
class Prefills(OfMethod):
    """Forwards over prompts per request alone: for methods whose own generations make tokens too."""

    model: str

    def measure(self, bench: Bench) -> Finding:
        return Finding(counted(bench, self.model, built(self.method), 2, {}).prefills)


@dataclass(frozen=True, kw_only=True)
class Steps(OfMethod):
    """One-position forwards per generated token, for a bound."""

    model: str
    new: int = 6

    def measure(self, bench: Bench) -> Finding:
        return Finding(counted(bench, self.model, built(self.method), self.new, {}).steps)


@dataclass(frozen=True, kw_only=True)
class Order(Check):
    """Positions that went through the decoder per request, for each of `methods` in the order in which they are claimed to
    grow (label -> option of the group, or a node with `_target_`).
    """

    methods: Mapping[str, Mapping[str, Any]]
    model: str
    new: int = 6
    artifacts: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    def validate(self) -> None:
        for node in self.methods.values():
            built(node)

    def measure(self, bench: Bench) -> Finding:
        counts = {
            label: counted(bench, self.model, built(node), self.new, self.artifacts.get(label, {})).positions
            for label, node in self.methods.items()
        }
        note = ", ".join(f"{label} {n}" for label, n in counts.items())
        return Finding(list(counts.values()), note=f"decoder positions: {note}")


@dataclass
class Count:
    """Sums over one request."""

    new: int = 0  # generated tokens
    prefills: int = 0
    stepped: int = 0
    positions: int = 0

    def add(self, rows: int, n: int) -> None:
        self.positions += rows * n
        if n > 1:
            self.prefills += rows
        else:
            self.stepped += rows

    @property
    def steps(self) -> float:
        return self.stepped / max(1, self.new - 1)


def counted(bench: Bench, model: str, method: Method, new: int, artifact: Mapping[str, Sequence[float]]) -> Count:
    """One request of the bench under `method`."""
    import torch

    from harness.asking.generation import generate
    from harness.asking.transform import transformed
    from harness.attention.attach import attach

    view, count = bench.view(model), Count()
    tensors = {k: torch.tensor([float(x) for x in v]) for k, v in artifact.items()}
    sample = bench.samples(model, tokens=96)[0]

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        count.add(x.shape[0], x.shape[1])

    handle = view.layers[0].register_forward_pre_hook(hook, with_kwargs=True)
    try:
        changed = transformed(view, method, sample)
        with attach(view, method, artifact=tensors) as attached:
            count.new = generate(view, [changed], [new], attached)[0].n_new
    finally:
        handle.remove()
    return count
