"""Structured start values: a small Llama that can already look back, match and copy before its first step.

Trained from the usual start, a model of this size learns to copy *a* value and never to pick the right one. Three
habits that larger models acquire in early training (induction, arXiv 2209.11895) are therefore written into the start.
Nothing is frozen; the class stays ``LlamaForCausalLM``.

* **Offset heads** (layers 0 and 1): every head attends to the token a fixed number of places back, 1, 2, 3, ... over
  the heads of both layers. A key bias along the fast rotary pairs and the same vector turned back by the offset as
  query bias make the score ``c^2 sum_i cos(w_i (distance - offset)) / sqrt(D)``. The first eight write a short code of
  the token they see into dimensions of the residual stream that no embedding uses, one block per offset.
* **Matching** (later layers): a head compares the code of the tokens ``a`` and ``a + 1`` back here with that of the
  tokens ``b`` and ``b + 1`` back there, in the slowest rotary pairs. ``(0, b)`` is plain induction; the other pairs are
  the distances between cue and value in the tasks this model is made for, see ``PAIRS``. Two heads return not what
  stands there but the token ``r`` places before it, from its code.
* **Copying** (later layers): ``W_o`` starts as a multiple of ``W_v`` transposed and the embeddings are tied, so what a
  head attends to is what the logits favour, for every token of the vocabulary at once.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

OFFSET_LAYERS = 2
SHARPNESS = 6.0  # score gap between the wanted offset and its neighbour
ROPE_BASE = 1e6
CODE = 8  # features of a token that an offset head writes into dimensions of its own
CODED = 8  # offsets 1..CODED have such dimensions; together they are the last CODE * CODED of the residual stream
MATCH_GAIN = 2.4
# (a, b) per head: what stands a back here stood b back there; (a, b, r): and the token r back from there is wanted
PAIRS: tuple[tuple[tuple[int, ...], ...], ...] = (
    # induction three times; "VAR X | next name", read from behind the line; "value 12345, they are: | first name"
    ((0, 1), (0, 2), (0, 3), (1, 1, 8), (5, 1, 7)),
    # "favorite N is | A"; "brave-table mentioned in the provided text is | 123" twice; induction twice
    ((1, 2), (7, 4), (7, 4), (0, 1), (0, 2)),
)
READ_GAIN = 3.0
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
        layers = [layer.self_attn for layer in model.model.layers]
        code = layers[0].v_proj.weight[:CODE].clone()
        for index, attention in enumerate(layers):
            if index < OFFSET_LAYERS:
                _look_back(attention, cfg, code, first=index * cfg.num_attention_heads + 1)
            else:
                _copy(attention, cfg)
                _match(attention, cfg, code, PAIRS[index - OFFSET_LAYERS])
    return model


def content(cfg: LlamaConfig) -> int:
    """Dimensions of the residual stream that embeddings use; the rest belongs to the offset heads."""
    return cfg.hidden_size - CODE * CODED


def _noise(model: LlamaForCausalLM, cfg: LlamaConfig, generator: torch.Generator) -> None:
    """N(0, 1/fan_in) everywhere, unit embeddings, residual branches shrunk by the square root of their number."""
    depth = 1 / math.sqrt(2 * cfg.num_hidden_layers)
    free = content(cfg)
    for name, weight in model.named_parameters():
        if name.endswith("embed_tokens.weight"):
            weight.normal_(0, 1, generator=generator)
            weight[:, free:] = 0
        elif weight.dim() == 2:
            branch = name.endswith(("o_proj.weight", "down_proj.weight"))
            weight.normal_(0, (depth if branch else 1.0) / math.sqrt(weight.shape[1]), generator=generator)
            if branch:
                weight[free:] = 0
            elif name.endswith("v_proj.weight"):
                weight[:, free:] = 0
        else:
            weight.fill_(0.0 if name.endswith("bias") else 1.0)
    model.model.norm.weight.fill_(FINAL_NORM)


def _look_back(attention: Any, cfg: LlamaConfig, code: Tensor, first: int) -> None:
    """Heads that attend ``first``, ``first + 1``, ... tokens back; content contributes little to their scores.

    ``code`` [CODE, hidden] is shared by all of them, so that codes written for different offsets can be compared.
    """
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
        if first + head <= CODED:
            value = slice(head * size, head * size + CODE)
            attention.v_proj.weight[value] = code
            attention.o_proj.weight[:, value] = 0
            attention.o_proj.weight[block(cfg, first + head), value] = torch.eye(CODE)


def block(cfg: LlamaConfig, offset: int) -> slice:
    """The dimensions that carry the code of the token ``offset`` back."""
    start = content(cfg) + (offset - 1) * CODE
    return slice(start, start + CODE)


def _copy(attention: Any, cfg: LlamaConfig) -> None:
    """What a head reads it writes back unchanged (as far as its few dimensions allow), twice as large."""
    value = attention.v_proj.weight
    attention.o_proj.weight.copy_(2 * value.T * content(cfg) / value.pow(2).sum())


def _match(attention: Any, cfg: LlamaConfig, code: Tensor, pairs: tuple[tuple[int, ...], ...]) -> None:
    """Head h compares the tokens ``a`` and ``a + 1`` back here with those ``b`` and ``b + 1`` back there.

    A third number replaces what it returns: not the token there, but the one so many places before it.
    """
    size = head_size(cfg)
    slow = torch.arange(size // 2 - CODE, size // 2)  # the CODE slowest pairs: 2 * CODE dimensions
    for head, pair in enumerate(pairs):
        rows = slice(head * size, (head + 1) * size)
        if len(pair) == 3:
            value = slice(head * size, head * size + CODE)
            attention.v_proj.weight[value] = 0
            attention.v_proj.weight[value, block(cfg, pair[2])] = torch.eye(CODE)
            attention.o_proj.weight[:, rows] = 0
            attention.o_proj.weight[:, value] = READ_GAIN * code.T
        for projection, offset in zip((attention.q_proj, attention.k_proj), pair[:2], strict=True):
            projection.weight[rows] = 0
            for half, at in ((0, offset), (size // 2, offset + 1)):
                target = projection.weight[head * size + half + slow]
                if at == 0:
                    target += MATCH_GAIN * code
                else:
                    target[:, block(cfg, at)] = MATCH_GAIN * torch.eye(CODE)
                projection.weight[head * size + half + slow] = target
