"""Samples on which a method cannot act, because they are shorter than its budget: their answers are dense's by
construction, and counting them as the method's would move its number towards dense. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.contracts.method import Method
from harness.contracts.probe import Probe


def reason(method: Method, prompt: int, new: int) -> str:
    """Why `method` changes nothing about a prompt of `prompt` tokens that is answered with `new` ones (0: the prompt itself
    is scored, in one pass); empty if it acts. A question that is read token by token counts among the new ones.
    """
    if new == 1 and method.prefill_is_dense and all(hook.shares_prefill for hook in method.hooks):
        return "it acts only after the prompt, whose last position already gives the one token that is generated"
    return method.idle(context(method, prompt, new))


def context(method: Method, prompt: int, new: int) -> int:
    """The tokens that `Method.idle` is asked about. The last new token is chosen and never read; keys that are dropped
    after a forward are missed by the next one only.
    """
    if method.budget_on == "prompt":
        return prompt
    steps = max(new - 1, 0)
    only_drops = method.leaves_out and all(hook.drops_keys for hook in method.hooks if hook.leaves_out)
    return prompt + max(steps - 1, 0) if only_drops else prompt + steps


def equals_dense(method: Method, prompt: int, new: int, usage: Mapping[str, Any]) -> bool:
    """Whether a sample's answer is dense's by construction: by arithmetic, or because a method that only leaves keys out left
    none out in any step (`usage` of this sample: a sliding model shows no more keys than the budget anyway).
    """
    if not method.hooks or isinstance(method, Probe):
        return False  # dense itself, and meant to be
    only_leaves_out = all(hook.leaves_out or hook.at == "model" for hook in method.hooks)
    return bool(reason(method, prompt, new)) or (only_leaves_out and usage.get("changed") == 0)
