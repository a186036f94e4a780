"""The proof that a probe only looked, and that it saw something (design law 1, for methods that change nothing).

On one example, and on what is scored of it, dense numbers are computed without the probe, under it, and without it again:
all three must be bit-equal. Its hooks must have been called in every layer where it says that it looks.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.attention.attach import Attached, attach
from harness.attention.engaged import check_restored, generated
from harness.contracts.probe import Probe
from harness.errors import NotEngaged
from harness.models.inputs import Inputs
from harness.terminal.ranges import ranges

if TYPE_CHECKING:
    from harness.models.view import View

LAYERS = ("layer", "attention")  # where a hook is told its layer
Look = Callable[[Attached | None], Tensor]


@torch.no_grad()
def prove(view: View, probe: Probe, inputs: Inputs, steps: int, scored: Look | None = None) -> dict[str, Any]:
    """Evidence for a probe on one prompt, as of `engaged.prove`, with `layers_watched`. `steps`: decode steps that are
    looked at; `scored`: how numbers of one pass are computed. Raises `NotEngaged`.
    """
    look = scored or generated(view, inputs, None, steps)
    witness, seen = _witnessed(probe)
    before = look(None)
    with attach(view, witness) as attached:
        during = look(attached)
        report = attached.report()
    check_restored(probe, before, look(None))
    if not torch.equal(before, during):
        raise NotEngaged(
            f"Probe '{probe.name}' changed what the model computes: the numbers under it differ from dense's by up to "
            f"{float((before - during).abs().max()):.3g}. A probe only looks: its hooks return None, and write into nothing."
        )
    missing = sorted(set(probe.layers(view)) - seen)
    if missing and any(hook.at in LAYERS for hook in probe.hooks):
        hooks = ", ".join(hook.name for hook in probe.hooks if hook.at in LAYERS)
        raise NotEngaged(
            f"Probe '{probe.name}' saw nothing in layers {ranges(missing)} of {view.n_layers}: {hooks} was not called there in a "
            f"prompt of {inputs.ids.shape[1]} tokens and {steps} decode steps. One that looks at decoding needs a task with longer "
            "answers."
        )
    return {**report, "logits_moved": 0.0, "restored": True, "layers_watched": sorted(seen)}


def _witnessed(probe: Probe) -> tuple[Probe, set[int]]:
    """The probe with its hooks, each of which notes the layers that it is shown."""
    seen: set[int] = set()
    witness = copy(probe)
    for hook in probe.hooks:
        if hook.at in LAYERS:
            object.__setattr__(witness, hook.name, _noting(getattr(probe, hook.name), seen))
    return witness, seen


def _noting(hook: Callable[..., Any], seen: set[int]) -> Callable[..., Any]:
    def noted(ctx: Any, *args: Any) -> Any:
        seen.add(ctx.layer)
        return hook(ctx, *args)

    return noted
