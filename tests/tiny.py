"""Tiny random models of every family: 3 layers, 4 heads, 2 key heads, width 64, vocabulary 128. No weights, no
tokenizer, no network.

`view("llama")` gives a `View`; models are built once per process and must be left as they were (attaching does).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from harness.models.families import family_of
from harness.models.view import View

VOCABULARY = 128
WINDOW = 32

COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096,
    "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip

ALTERNATING = ["sliding_attention", "sliding_attention", "full_attention"]

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "qwen3_moe": (
        "qwen3_moe",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [1]},
    ),
    "mistral": ("mistral", {"sliding_window": WINDOW}),
    "gemma3": ("gemma3_text", {"sliding_window": WINDOW, "layer_types": ALTERNATING, "query_pre_attn_scalar": 16}),
    "phi3": ("phi3", {}),
    "gpt2": (
        "gpt2",
        {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 4096,
         "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    ),
    "gpt_oss": (
        "gpt_oss",
        {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention", "full_attention"],
         "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
}  # fmt: skip
FAMILIES = tuple(CONFIGS)


def config(name: str, **changes: Any) -> Any:
    """The config of a tiny model."""
    model_type, own = CONFIGS[name]
    values = own if name == "gpt2" else {**COMMON, **own}
    return CONFIG_MAPPING[model_type](**{**values, **changes})


def model(name: str, attn: str | None = None, seed: int = 0, **changes: Any) -> Any:
    """A randomly initialised model in float32 on the CPU, in eval mode; large weights, so that attention is far from
    uniform.
    """
    torch.manual_seed(seed)
    backend = attn or default_attn(name)
    made = AutoModelForCausalLM.from_config(config(name, **changes), attn_implementation=backend).eval()
    for key, parameter in made.named_parameters():
        if key.endswith("sinks"):  # left uninitialised by the library
            parameter.data.normal_()
    return made


def default_attn(name: str) -> str:
    """gpt-oss has no SDPA."""
    return "eager" if name == "gpt_oss" else "sdpa"


@cache
def view(name: str) -> View:
    """The shared view of a tiny model, without a tokenizer."""
    made = model(name)
    return View(made, None, family_of({"model_type": made.config.model_type}))  # type: ignore[arg-type]


def fresh_view(name: str, **changes: Any) -> View:
    """A view of a model of one's own."""
    made = model(name, **changes)
    return View(made, None, family_of({"model_type": made.config.model_type}))  # type: ignore[arg-type]


def ids(length: int, batch: int = 1, seed: int = 0) -> Tensor:
    """Random token ids `[batch, length]` without special tokens."""
    generator = torch.Generator().manual_seed(1000 * seed + length)
    return torch.randint(3, VOCABULARY, (batch, length), generator=generator)


def save(name: str, folder: Any) -> Any:
    """A model folder (config and weights, no tokenizer), for whoever loads from disk."""
    model(name).save_pretrained(folder)
    return folder
