"""The proof of one cell: which of its samples it is made on, and what is compared there. See `attention.engaged`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from harness.attention.attach import Attached
    from harness.running.cell import CellRun

STEPS = 2  # decode steps that a proof looks at, where as many are generated


def prove(work: CellRun, artifact: dict[str, Any]) -> dict[str, Any]:
    """Evidence that the cell's method changes what the cell scores, on its longest prompt of that kind. `NotEngaged`."""
    from harness.attention.engaged import prove
    from harness.models.inputs import collate

    method, view = work.cell.method, work.view
    i, scored = _chosen(work)
    sample = work.plain[i]
    changed = sample if scored else work.transformed([sample])[0]
    return prove(
        view, method, collate(view, [sample]), steps=min(STEPS, max(work.new) - 1),
        lowering=work.settings.lowering, changed=collate(view, [changed]), artifact=artifact, scored=scored,
    )  # fmt: skip


def _chosen(work: CellRun) -> tuple[int, Callable[[Attached | None], Tensor] | None]:
    """The sample, and how its scored numbers are computed; None: what is generated counts. As soon as one number comes from
    one pass over a text, that is where the method must act.
    """
    kind, every = work.cell.task.kind, range(len(work.plain))

    def longest(among: Any) -> int:
        return max(among, key=lambda k: len(work.plain[k]))

    if kind == "nll":
        i = longest(every)
        return i, lambda attached: _nll(work, i, attached)
    if kind == "requests":
        from harness.asking.requests import log_likelihoods, scores

        among = [k for k in every if scores(work.examples[k])]
        if among:
            i = longest(among)
            return i, lambda attached: log_likelihoods(work.view, work.examples[i], attached)
    return longest(every), None


def _nll(work: CellRun, i: int, attached: Attached | None) -> Tensor:
    import torch

    from harness.asking.likelihood import nll

    return torch.tensor(nll(work.view, [work.plain[i].ids], [work.examples[i].n_scored], attached)[0])
