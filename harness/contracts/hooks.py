"""The hooks of a method, in the order in which data meets them."""

from __future__ import annotations

HOOKS = (
    "around", "transform", "begin", "layer_in", "mask", "pattern", "select", "scores", "probs", "edit_cache", "heads",
    "attn_out", "mlp_out", "layer_out", "logits", "generate",
)  # fmt: skip
