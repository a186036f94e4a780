"""Tiny random models of every family and a byte-level tokenizer, built in memory in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers import models as token_models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from harness.models.view import View

BOS, EOS, PAD = 0, 1, 2
VOCAB = 256 + 3
SHAPE = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
    "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD,
}  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 4.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
GEMMA: dict[str, Any] = {
    **SHAPE, "head_dim": 16, "sliding_window": 8, "layer_types": ALTERNATING, "rope_parameters": GEMMA_ROPE,
    "query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**SHAPE, "rope_parameters": LLAMA3_ROPE},
    "qwen2": {**SHAPE, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
    "qwen3": {**SHAPE, "head_dim": 16},
    "mistral": {**SHAPE, "sliding_window": 8},
    "phi3": {**SHAPE, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}},
    "gemma3_text": GEMMA,
    "gpt2": {
        "vocab_size": VOCAB, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512, "bos_token_id": BOS,
        "eos_token_id": EOS, "pad_token_id": PAD,
    },
    "gpt_oss": {
        **SHAPE, "head_dim": 16, "sliding_window": 8, "layer_types": ALTERNATING, "num_local_experts": 4,
        "num_experts_per_tok": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}  # fmt: skip
FAMILIES = sorted(CONFIGS)
CHAT = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def model(family: str, seed: int = 0, **changes: Any) -> Any:
    """A random model in float32. The output matrix is spread out so that greedy choices are no near ties."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{**CONFIGS[family], **changes})
    backend = "eager" if family == "gpt_oss" else "sdpa"
    made = AutoModelForCausalLM.from_config(config, attn_implementation=backend)
    for name, weight in made.named_parameters():
        if weight.dim() > 1 or "sinks" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return made.requires_grad_(False).eval()


def tokenizer(chat: bool = False, closing: bool = False) -> PreTrainedTokenizerFast:
    """One token per byte, `<s>` in front. `closing`: also `</s>` behind every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<s>": BOS, "</s>": EOS, "<pad>": PAD, **{c: i + 3 for i, c in enumerate(alphabet)}}
    core = Tokenizer(token_models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    single = "<s> $A </s>" if closing else "<s> $A"
    core.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", BOS), ("</s>", EOS)])
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<s>", "</s>", "<pad>")])
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    if chat:
        made.chat_template = CHAT
    return made


def view(family: str = "llama", seed: int = 0, **changes: Any) -> View:
    """A view of a tiny random model."""
    return View.of(model(family, seed, **changes), tokenizer(), name=f"tiny-{family}")


def save(folder: Path, family: str = "llama", seed: int = 0, chat: bool = False, **changes: Any) -> Path:
    """A complete checkpoint folder."""
    model(family, seed, **changes).save_pretrained(folder)
    tokenizer(chat).save_pretrained(folder)
    return folder
