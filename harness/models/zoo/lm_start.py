"""Structured start values: a small Llama that can already look back, match and copy before its first step.

Trained from the usual start, a model of this size learns to copy *a* value and never to pick the right one. Three
habits that larger models acquire in early training are therefore written into the start; nothing is frozen.

* **Offset heads** (layers 0 and 1): every head attends to the token a fixed number of places back, 1, 2, 3, ... over
  the heads of both layers. A key bias along the fast rotary pairs and the same vector turned back by the offset as
  query bias make the score ``c^2 sum_i cos(w_i (distance - offset)) / sqrt(D)``.
* **Copying** (later layers): ``W_o`` starts as a multiple of ``W_v`` transposed and the embeddings are tied, so what a
  head attends to is what the logits favour, for every token of the vocabulary at once.
* **Matching** (later layers): head h asks with the token at hand and compares it with what offset head h of layer 0
  wrote, in the slow rotary pairs: "after which earlier copy of this token am I?" (induction, arXiv 2209.11895).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

OFFSET_LAYERS = 2
SHARPNESS = 6.0  # score gap between the wanted offset and its neighbour
SLOW = 0.006  # rotary pairs slower than this (radians per token) carry content
ROPE_BASE = 1e6
FINAL_NORM = 0.1  # keeps tied logits near standard deviation 1 with unit embeddings


def config(vocab: int, hidden: int = 160, layers: int = 4, heads: int = 5, inner: int = 256) -> LlamaConfig:
    """Tied embeddings, biases on the projections, and a rotary base that leaves slow pairs at a small head size."""
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        intermediate_size=inner,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_BASE},
        attention_bias=True,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )


def head_size(cfg: LlamaConfig) -> int:
    return cfg.hidden_size // cfg.num_attention_heads


def speeds(cfg: LlamaConfig) -> Tensor:
    """Rotary speeds in radians per token, fastest first: [head_dim / 2]."""
    size = head_size(cfg)
    return ROPE_BASE ** (-torch.arange(0, size, 2) / size)


def fresh(cfg: LlamaConfig, seed: int) -> LlamaForCausalLM:
    """A model with the structured start; the same seed gives the same weights."""
    model = LlamaForCausalLM(cfg)
    with torch.no_grad():
        _noise(model, cfg, torch.Generator().manual_seed(seed))
        for index, layer in enumerate(model.model.layers):
            if index < OFFSET_LAYERS:
                _look_back(layer.self_attn, cfg, first=index * cfg.num_attention_heads + 1)
            else:
                _copy_and_match(layer.self_attn, model.model.layers[0].self_attn, cfg)
    return model


def _noise(model: LlamaForCausalLM, cfg: LlamaConfig, generator: torch.Generator) -> None:
    """N(0, 1/fan_in) everywhere, unit embeddings, residual branches shrunk by the square root of their number."""
    depth = 1 / math.sqrt(2 * cfg.num_hidden_layers)
    for name, weight in model.named_parameters():
        if name.endswith("embed_tokens.weight"):
            weight.normal_(0, 1, generator=generator)
        elif weight.dim() == 2:
            shrink = depth if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            weight.normal_(0, shrink / math.sqrt(weight.shape[1]), generator=generator)
        else:
            weight.fill_(0.0 if name.endswith("bias") else 1.0)
    model.model.norm.weight.fill_(FINAL_NORM)


def _look_back(attention: Any, cfg: LlamaConfig, first: int) -> None:
    """Heads that attend ``first``, ``first + 1``, ... tokens back; content contributes little to their scores."""
    size = head_size(cfg)
    half = size // 2
    fast = speeds(cfg)[: size // 4]
    amplitude = math.sqrt(SHARPNESS * math.sqrt(size) / float((1 - torch.cos(fast)).sum()))
    attention.q_proj.weight.mul_(0.25)
    attention.k_proj.weight.mul_(0.25)
    for head in range(cfg.num_attention_heads):
        low = slice(head * size, head * size + len(fast))
        high = slice(head * size + half, head * size + half + len(fast))
        turn = -fast * (first + head)
        attention.k_proj.bias[low] = amplitude
        attention.q_proj.bias[low] = amplitude * torch.cos(turn)
        attention.q_proj.bias[high] = amplitude * torch.sin(turn)


def _copy_and_match(attention: Any, offsets: Any, cfg: LlamaConfig) -> None:
    """Output = transposed value; head h compares the token here with the token that offset head h saw there."""
    size, heads = head_size(cfg), cfg.num_attention_heads
    value = attention.v_proj.weight
    attention.o_proj.weight.copy_(2 * value.T * (heads * size) / value.pow(2).sum())
    slow = (speeds(cfg) < SLOW).repeat(2)[:, None]  # [D, 1], both halves of a pair
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        seen, written = offsets.v_proj.weight[rows], offsets.o_proj.weight[:, rows].T
        attention.q_proj.weight[rows] = slow * 2 * math.sqrt(size) * seen / seen.norm()
        attention.k_proj.weight[rows] = slow * 2 * math.sqrt(size) * written / written.norm()
