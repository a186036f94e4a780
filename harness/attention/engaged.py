"""The proof that an attached method did something, and that nothing is left of it afterwards (design law 1).

On one example, and on what is scored of it: dense numbers, the method's numbers for the same tokens, dense numbers again.
The method must have acted in every layer where it said it would, must have read or kept less than dense does, must have
moved the numbers; and the last dense ones must be bit-equal to the first. Otherwise the cell fails, because its number
would be the dense model's under another name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.attention import apart, idle, refusals
from harness.attention.attach import Attached, attach
from harness.attention.blame import blame
from harness.contracts.method import Method
from harness.errors import NotEngaged
from harness.models.inputs import Inputs, of_ids
from harness.terminal.ranges import ranges

if TYPE_CHECKING:
    from harness.models.view import View

FAR = 1e4  # more than logits ever differ by
ROUNDING = 1e-6  # nats; what the same numbers may differ by when they are computed in another order


@torch.no_grad()
def prove(
    view: View,
    method: Method,
    prompt: Tensor | Inputs,
    steps: int = 2,
    lowering: str = "auto",
    changed: Inputs | None = None,
    artifact: Mapping[str, Tensor] | None = None,
    scored: Callable[[Attached | None], Tensor] | None = None,
) -> dict[str, Any]:
    """Evidence for one method on one prompt (ids `[1, T]` or inputs): usage, `logits_moved` (largest difference
    of log probabilities), `restored`.

    What is compared is what is scored. Of a text that is generated: the last row of the prompt and `steps` decode steps that
    are fed dense's own greedy tokens, all read as samples are (`Sample.context`); a method with a search of its own must
    report what it did. Of a text that is scored as it stands: the log-likelihoods (nats) that `scored` gives, computed as for
    a sample under the attached method (None: dense). `changed`: what the method's `transform` made of the prompt. Raises
    `NotEngaged`.
    """
    inputs = prompt if isinstance(prompt, Inputs) else of_ids(prompt.to(view.device))
    if not method.hooks:
        return unmoved(view, method)
    look = scored or generated(view, inputs, changed, steps)
    if scored:
        refusals.check_scored(method)
    size, new = inputs.ids.shape[1] - inputs.tail, 0 if scored else inputs.tail + steps + 1
    if reason := idle.reason(method, size, new):  # arithmetic: nothing has to be computed
        raise refusals.unchanged(method, reason)
    before = look(None)
    with attach(view, method, lowering, artifact) as attached:
        during = look(attached)
        if method.searches:
            method.generate(attached.request, [max(steps, 2)] * len(inputs.samples), view.stop_ids)
        report = attached.report()
    check_restored(method, before, look(None))
    moved = float(_finite(before - during).abs().max())
    _judge(view, method, report, moved, size + max(new - 1, 0), bool(new))
    return {**report, "logits_moved": moved, "restored": True}


def unmoved(view: View, method: Method) -> dict[str, Any]:
    """The evidence for a method without hooks, which is dense: there is nothing to compute."""
    return {**Attached(view, method, None).report(), "logits_moved": 0.0, "restored": True}


def check_restored(method: Method, before: Tensor, after: Tensor) -> None:
    if not torch.equal(before, after):
        raise NotEngaged(
            f"Method '{method.name}' left traces: dense numbers before and after it differ by up to "
            f"{float((before - after).abs().max()):.3g}. They must be bit-equal; it changed weights or global state."
        )


def _finite(difference: Tensor) -> Tensor:
    """A token that a method rules out moves by as much as a float can say, which is no number for a record."""
    return difference.nan_to_num(posinf=FAR, neginf=-FAR).clamp(-FAR, FAR)


def generated(view: View, inputs: Inputs, changed: Inputs | None, steps: int) -> Callable[[Attached | None], Tensor]:
    """Log probabilities `[steps + 1, V]` (float32) of the last prompt row and of each step, which is fed what the first call
    chose greedily.
    """
    fed: list[Tensor] = []

    def prefill(attached: Attached | None) -> dict[str, Any]:
        if attached is None:
            return {**inputs.prefill(), "use_cache": False}
        shown = attached.begin(changed or inputs)
        return {**shown.prefill(), "past_key_values": attached.new_cache(), "use_cache": True}

    def look(attached: Attached | None) -> Tensor:
        cache = attached.new_cache() if attached is not None else None
        shown = inputs if attached is None else attached.begin(changed or inputs)
        rows, given = [], shown.prefill()
        if shown.tail:
            cache = apart.read(view, shown, cache)
            given = {"input_ids": shown.ids[:, -1:]} | shown.further(1, -1)
        for i in range(steps + 1):
            out = view.lm(**given, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            rows.append(out.logits[0, -1].float().log_softmax(-1))
            if i == len(fed):
                fed.append(out.logits[:, -1:].argmax(-1).to(view.device))
            given = {"input_ids": fed[i]} | shown.further(1, i)
        if bool(torch.stack(rows).isnan().any()):
            raise blame(view, prefill, attached, f"the logits of one of {steps + 1} new tokens")
        return torch.stack(rows)

    return look


def _judge(view: View, method: Method, report: dict[str, Any], moved: float, n: int, new: bool) -> None:
    """Raise `NotEngaged`, with the reason in plain words, unless the evidence is complete. `n`: tokens of the context; `new`:
    whether some of them are generated.
    """
    if method.searches and not any(key.startswith("method_") for key in report):
        raise NotEngaged(f"Method '{method.name}' searched, but reports nothing that it did in the search.")
    elsewhere = method.searches or method.rewrites_prompt
    if not method.layers(view) and not report["layers_touched"] and not elsewhere:
        raise NotEngaged(f"Method '{method.name}' leaves all {view.n_layers} layers dense; let some of them be sparse.")
    missing = sorted(set(method.layers(view)) - set(report["layers_touched"]))
    if missing:
        raise NotEngaged(
            f"Method '{method.name}' did not act in layers {ranges(missing)} of {view.n_layers} on a context of "
            f"{n} tokens{_windows(view)}; check its budget against the length of the prompts."
        )
    drops = any(hook.drops_keys for hook in method.hooks)
    kept_less = drops and report["kv_tokens_kept"] < report["kv_tokens_seen"]
    remedy = f"Lower its budget ({method.budget_unit}) or use longer prompts."
    if method.leaves_out and not kept_less and report["density"] >= 1:
        raise NotEngaged(
            f"Method '{method.name}' read every key that dense attention reads on a context of {n} tokens"
            f"{_windows(view)}, so its number would be dense's. {remedy}"
        )
    if moved <= ROUNDING and not method.searches:
        what = "no logit moved" if new else "no log-likelihood that is scored moved"
        raise NotEngaged(
            f"Method '{method.name}' ran in layers {ranges(report['layers_touched'])} of {view.n_layers}, "
            f"but {what} on a context of {n} tokens{_windows(view)}: what it changed was not used. "
            f"{_told(report)}{remedy}"
        )


def _told(report: dict[str, Any]) -> str:
    """What the method itself says that it did."""
    reported = [f"{k.removeprefix('method_')} {v:.3g}" for k, v in report.items() if k.startswith("method_")]
    return f"It reports {', '.join(reported)}. " if reported else ""


def _windows(view: View) -> str:
    """A clause about sliding windows: under one narrower than the budget most methods have nothing to leave out."""
    windows = [w for i in range(view.n_layers) if (w := view.sliding_window(i)) is not None]
    return f" ({len(windows)} of {view.n_layers} layers slide over {min(windows)} keys anyway)" if windows else ""
