"""The proof that an attached method did something, and that nothing is left of it afterwards (design law 1).

On one example: dense logits, the method's logits for the same tokens, dense logits again. The method must have acted in
every layer where it said it would, must have read or kept less than dense does, must have moved the logits; and the
last dense logits must be bit-equal to the first. Otherwise the cell fails, because its number would be the dense
model's under another name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.attention.attach import Attached, attach
from harness.contracts.method import HOOKS, Method
from harness.errors import NotEngaged

if TYPE_CHECKING:
    from harness.models.view import View


@torch.no_grad()
def prove(view: View, method: Method, input_ids: Tensor, steps: int = 2, lowering: str = "auto") -> dict[str, Any]:
    """Evidence for one method on `input_ids` `[1, T]`: usage, `logits_moved` (largest difference), `restored`.

    Tasks that score the prompt in one forward want `steps=0`: a method that acts only afterwards is then not engaged.
    Compares the last row of the prompt and `steps` decode steps that are fed dense's own greedy tokens. Raises
    `NotEngaged`.
    """
    if not method.overrides(*HOOKS):
        return {**Attached(method, None).report(), "logits_moved": 0.0, "restored": True}
    if steps == 0 and method.prefill_is_dense:
        raise NotEngaged(
            f"Method '{method.name}' acts only after the prompt, and this task scores the prompt itself in one pass, "
            "so its number would be dense's. Use a task that generates, or a method that acts in prefill."
        )
    before, tokens = _logits(view, input_ids, steps)
    with attach(view, method, lowering) as attached:
        during, _ = _logits(view, input_ids, steps, attached, tokens)
        report = attached.report()
    after, _ = _logits(view, input_ids, steps, None, tokens)
    if not torch.equal(before, after):
        raise NotEngaged(
            f"Method '{method.name}' left traces: dense logits before and after it differ by up to "
            f"{float((before - after).abs().max()):.3g}. They must be bit-equal; it changed weights or global state."
        )
    moved = float((before.float() - during.float()).abs().max())
    _judge(view, method, report, moved, input_ids.shape[1] + steps)
    return {**report, "logits_moved": moved, "restored": True}


def _logits(
    view: View, input_ids: Tensor, steps: int, attached: Attached | None = None, tokens: list[Tensor] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Logits `[steps + 1, V]` of the last prompt row and of each step, and the tokens that were fed (greedy if not
    given).
    """
    cache = attached.new_cache() if attached is not None else None
    rows, fed, step = [], [], input_ids.to(view.device)
    for i in range(steps + 1):
        out = view.model(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        rows.append(out.logits[0, -1])
        step = out.logits[:, -1:].argmax(-1) if tokens is None else tokens[i]
        fed.append(step)
    return torch.stack(rows), fed


def _judge(view: View, method: Method, report: dict[str, Any], moved: float, n: int) -> None:
    """Raise `NotEngaged`, with the reason in plain words, unless the evidence is complete."""
    reason = method.idle(n)
    if reason:
        raise NotEngaged(f"Method '{method.name}' would not change this model on this task: {reason}.")
    if not method.layers(view):
        raise NotEngaged(f"Method '{method.name}' leaves all {view.n_layers} layers dense; let some of them be sparse.")
    missing = sorted(set(method.layers(view)) - set(report["layers_touched"]))
    if missing:
        raise NotEngaged(
            f"Method '{method.name}' did not act in layers {_ranges(missing)} of {view.n_layers} on a context of "
            f"{n} tokens{_windows(view)}; check its budget against the length of the prompts."
        )
    reads = method.overrides("pattern", "select", "edit_cache")
    kept_less = method.overrides("edit_cache") and report["kv_tokens_kept"] < report["kv_tokens_seen"]
    remedy = f"Lower its budget ({method.budget_unit}) or use longer prompts."
    if reads and not kept_less and report["density"] >= 1:
        raise NotEngaged(
            f"Method '{method.name}' read every key that dense attention reads on a context of {n} tokens"
            f"{_windows(view)}, so its number would be dense's. {remedy}"
        )
    if moved == 0:
        raise NotEngaged(
            f"Method '{method.name}' ran in layers {_ranges(report['layers_touched'])} of {view.n_layers}, "
            f"but no logit moved on a context of {n} tokens{_windows(view)}: what it left out was not used. {remedy}"
        )


def _windows(view: View) -> str:
    """A clause about sliding windows: under one narrower than the budget most methods have nothing to leave out."""
    windows = [w for i in range(view.n_layers) if (w := view.sliding_window(i)) is not None]
    return f" ({len(windows)} of {view.n_layers} layers slide over {min(windows)} keys anyway)" if windows else ""


def _ranges(layers: list[int]) -> str:
    """`0-3, 5`."""
    parts: list[list[int]] = []
    for i in layers:
        if parts and i == parts[-1][-1] + 1:
            parts[-1].append(i)
        else:
            parts.append([i])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
