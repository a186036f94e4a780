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
    from harness.asking.transform import transformed
    from harness.attention.engaged import prove
    from harness.models.inputs import collate

    method, view = work.cell.method, work.view
    i, scored = _chosen(work)
    sample = work.plain[i]
    changed = sample if scored else transformed(view, method, sample)
    return prove(
        view, method, collate(view, [sample]), steps=min(STEPS, max(work.new) - 1),
        lowering=work.settings.lowering, changed=collate(view, [changed]), artifact=artifact, scored=scored,
    )  # fmt: skip


def _chosen(work: CellRun) -> tuple[int, Callable[[Attached | None], Tensor] | None]:
    """The sample, and how its scored numbers are computed; None: what is generated counts. As soon as one number comes from
    one pass over a text, that is where the method must act.
    """
    looks = [work.asker.scored(work.view, e.question, s) for e, s in zip(work.examples, work.plain, strict=True)]
    among = [k for k, look in enumerate(looks) if look is not None] or range(len(looks))
    i = max(among, key=lambda k: len(work.plain[k]))
    return i, looks[i]
