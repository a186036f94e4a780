"""Tiny random vision-language models of every family: 4 layers, 4 heads, width 64, 56-pixel pictures, a byte-level
tokenizer, a PIL image processor and the family's way of writing chats. No weights, no network.

`save("llava", folder)` writes a complete checkpoint, `view("llava")` loads it back through `ModelSpec`, once per
process; a shared view must be left as it was (attaching does). `images(3)` are random pictures of different sizes.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers import models as token_models

from harness.models.load import ModelSpec
from harness.models.view import View

SPECIAL = (
    "<s>", "</s>", "<pad>", "<image>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
ID = {token: i for i, token in enumerate(SPECIAL)}
VOCABULARY = 256 + len(SPECIAL)
SIZE, PATCH = 56, 14  # pixels: a grid of 4 x 4
PINPOINTS = [[56, 112], [112, 56], [112, 112]]
QUERIES = 6

DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096, "bos_token_id": ID["<s>"],
    "eos_token_id": ID["</s>"], "pad_token_id": ID["<pad>"],
}  # fmt: skip
TOWER: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": SIZE,
    "patch_size": PATCH,
}  # fmt: skip
LLAVA_CHAT = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
QWEN_CHAT = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def images(n: int, seed: int = 0) -> list[Image.Image]:
    """Random RGB pictures, 40 to 160 pixels wide and high."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(40, 160, (n, 2), generator=generator).tolist()
    coarse = [torch.randint(0, 256, (6, 6, 3), generator=generator, dtype=torch.uint8) for _ in range(n)]
    return [
        Image.fromarray(c.numpy()).resize((size[0], size[1]), Image.Resampling.NEAREST)
        for c, size in zip(coarse, sizes, strict=True)
    ]


def tokenizer(family: str) -> Any:
    """One token per byte and the special tokens of all families. Qwen's has no bos, the others write one."""
    core = Tokenizer(token_models.BPE(vocab=_vocabulary(), merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    if family.startswith("qwen"):
        made = hf.PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<pad>")
        made.chat_template = QWEN_CHAT
        return made
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", ID["<s>"])])
    own = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "padding_side": "left"}
    if family == "instructblip":
        return hf.PreTrainedTokenizerFast(tokenizer_object=core, **own)
    named = {"image_token": "<image>"}
    made = hf.PreTrainedTokenizerFast(tokenizer_object=core, **own, extra_special_tokens=named)
    made.chat_template = LLAVA_CHAT
    return made


def model(family: str, seed: int = 0, **decoder: Any) -> Any:
    """A random model in float32; large weights, so that attention is far from uniform. `decoder`: other values of the
    text config.
    """
    torch.manual_seed(seed)
    config = BUILD[family]({**DECODER, **decoder})
    made = hf.AutoModelForImageTextToText.from_config(config)
    for name, weight in made.named_parameters():
        if weight.dim() > 1 or "query_tokens" in name or "newline" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return made.requires_grad_(False).eval()


def save(family: str, folder: Path | str, seed: int = 0, **decoder: Any) -> Path:
    """A complete checkpoint folder, written by the library's own `save_pretrained`."""
    folder = Path(folder)
    hf.utils.logging.disable_progress_bar()
    model(family, seed, **decoder).save_pretrained(folder)
    words, pictures = tokenizer(family), image_processor(family)
    if family.startswith("qwen"):  # its processor cannot be built without torchvision (video)
        words.save_pretrained(folder)
        pictures.save_pretrained(folder)
    else:
        processor(family, pictures, words).save_pretrained(folder)
    return folder


def spec(folder: Path | str, **changes: Any) -> ModelSpec:
    """A `ModelSpec` on the CPU."""
    return ModelSpec(path=str(folder), device="cpu", **changes)


@cache
def view(family: str) -> View:
    """The shared view of a tiny model, loaded from a folder that is gone afterwards."""
    return fresh_view(family)


def fresh_view(family: str, seed: int = 0, backend: str = "sdpa", **decoder: Any) -> View:
    """A view of a model of one's own."""
    with tempfile.TemporaryDirectory() as folder:
        return spec(save(family, Path(folder) / f"tiny-{family}", seed, **decoder), backend=backend).load()


def processor(family: str, pictures: Any, words: Any) -> Any:
    """The library's own processor: what `Vision.process` must agree with."""
    if family.startswith("qwen"):
        made: Any = object.__new__(hf.Qwen2VLProcessor if family == "qwen2_vl" else hf.Qwen2_5_VLProcessor)
        made.image_processor, made.tokenizer, made.chat_template = pictures, words, words.chat_template
        made.image_token, made.video_token = "<|image_pad|>", "<|video_pad|>"
        made.image_token_id, made.video_token_id = ID["<|image_pad|>"], ID["<|video_pad|>"]
        return made
    if family == "instructblip":
        return hf.InstructBlipProcessor(pictures, words, qformer_tokenizer(), num_query_tokens=QUERIES)
    kind: Any = hf.LlavaNextProcessor if family == "llava_next" else hf.LlavaProcessor
    return kind(
        image_processor=pictures, tokenizer=words, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=words.chat_template,
    )  # fmt: skip


def image_processor(family: str) -> Any:
    """The PIL image processor of a family."""
    square = {"height": SIZE, "width": SIZE}
    if family.startswith("qwen"):
        unit = (2 * PATCH) ** 2
        return hf.Qwen2VLImageProcessorPil(size={"shortest_edge": 2 * unit, "longest_edge": 12 * unit})
    if family == "instructblip":
        return hf.BlipImageProcessorPil(size=square)
    if family == "llava_next":
        return hf.LlavaNextImageProcessorPil(
            size={"shortest_edge": SIZE}, crop_size=square, image_grid_pinpoints=PINPOINTS
        )
    return hf.CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=square)


def qformer_tokenizer() -> Any:
    """One token per byte."""
    core = Tokenizer(token_models.BPE(vocab=_vocabulary(), merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    return hf.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>")


@cache
def _vocabulary() -> dict[str, int]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return ID | {c: i + len(SPECIAL) for i, c in enumerate(alphabet)}


def _llava(decoder: dict[str, Any]) -> Any:
    return hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**TOWER), text_config=hf.LlamaConfig(**decoder),
        image_token_index=ID["<image>"], image_seq_length=16,
    )  # fmt: skip


def _vipllava(decoder: dict[str, Any]) -> Any:
    return hf.VipLlavaConfig(
        vision_config=hf.CLIPVisionConfig(**TOWER), text_config=hf.LlamaConfig(**decoder),
        image_token_index=ID["<image>"], image_seq_length=16, vision_feature_layer=[-2, -3],
    )  # fmt: skip


def _llava_next(decoder: dict[str, Any]) -> Any:
    return hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**TOWER), text_config=hf.LlamaConfig(**decoder),
        image_token_index=ID["<image>"], image_grid_pinpoints=PINPOINTS, image_seq_length=16,
    )  # fmt: skip


def _qwen(decoder: dict[str, Any]) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    return {
        "text_config": {**decoder, "rope_parameters": rope, "bos_token_id": None, "eos_token_id": ID["<|im_end|>"]},
        "image_token_id": ID["<|image_pad|>"], "video_token_id": ID["<|video_pad|>"],
        "vision_start_token_id": ID["<|vision_start|>"], "vision_end_token_id": ID["<|vision_end|>"],
    }  # fmt: skip


def _qwen2_vl(decoder: dict[str, Any]) -> Any:
    tower = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 4, "patch_size": PATCH, "mlp_ratio": 2}
    return hf.Qwen2VLConfig(vision_config=tower, **_qwen(decoder))


def _qwen2_5_vl(decoder: dict[str, Any]) -> Any:
    tower = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": PATCH,
        "out_hidden_size": 64, "window_size": 4 * PATCH, "fullatt_block_indexes": [1],
    }  # fmt: skip
    return hf.Qwen2_5_VLConfig(vision_config=tower, **_qwen(decoder))


def _instructblip(decoder: dict[str, Any]) -> Any:
    qformer = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": 128, "pad_token_id": ID["<pad>"],
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    return hf.InstructBlipConfig(
        vision_config=hf.InstructBlipVisionConfig(**TOWER).to_dict(), qformer_config=qformer,
        text_config=hf.LlamaConfig(**decoder).to_dict(), num_query_tokens=QUERIES, image_token_index=ID["<image>"],
    )  # fmt: skip


BUILD: dict[str, Any] = {
    "llava": _llava, "vipllava": _vipllava, "llava_next": _llava_next, "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl, "instructblip": _instructblip,
}  # fmt: skip
FAMILIES = tuple(BUILD)
