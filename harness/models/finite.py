"""Numbers that are no numbers in a model: damaged weights, or a number format too narrow for them. A score made from them
would mean nothing, so a model is looked at when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.models.view import View

PROBE = 8  # token ids that a model reads when it is loaded


@torch.no_grad()
def check_model(view: View) -> None:
    """`UserError` if the model computes non-finite logits for a few tokens."""
    ids = torch.arange(min(PROBE, int(view.config.vocab_size)), device=view.device)[None]
    given = {"input_ids": ids, "use_cache": False}
    if not bool(torch.isfinite(view.lm(**given).logits).all()):
        raise model_error(view, first_nonfinite(view, given) or "the logits")


def model_error(view: View, where: str) -> UserError:
    """The error for a model in which non-finite values begin `where`."""
    return UserError(
        f"Model '{view.name}' computes numbers that are not finite (NaN or infinite), first in {where}: its weights are "
        f"damaged, or its number format ({str(view.dtype).removeprefix('torch.')}) is too narrow for it. Copy the checkpoint "
        "again, or set the model's dtype to bfloat16 or float32."
    )


@torch.no_grad()
def first_nonfinite(view: View, given: Mapping[str, Any]) -> str | None:
    """Where non-finite values begin in a forward; None: nowhere."""
    found: list[str] = []

    def look(name: str, is_bad: Callable[[Tensor], Tensor]) -> Any:
        def hook(module: Any, args: Any, out: Any) -> None:
            if not found and bool(is_bad(out[0] if isinstance(out, tuple) else out).any()):
                found.append(name)

        return hook

    parts = [("the embedding", view.lm.get_input_embeddings())]
    for i in range(view.n_layers):
        parts += [
            (f"the attention of layer {i}", view.attention(i)),
            (f"the feed-forward part of layer {i}", view.mlp(i)),
        ]
        parts += [(f"layer {i}", view.layers[i])]
    handles = [part.register_forward_hook(look(name, lambda x: ~torch.isfinite(x))) for name, part in parts]
    ruled_out = look("the language head", lambda x: x.isnan() | x.isposinf())  # minus infinity is a token ruled out
    handles.append(view.lm_head.register_forward_hook(ruled_out))
    try:
        embeds = given.get("inputs_embeds")
        if embeds is not None and not bool(torch.isfinite(embeds).all()):
            return "the embedding of the pictures"
        view.lm(**given)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
