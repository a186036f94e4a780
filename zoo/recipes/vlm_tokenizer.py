"""Tokenizer, image processor and chat template of the zoo's vision-language models.

Whole words, single punctuation marks and line feeds are tokens, blanks are not; any other word is ``<unk>``. The
post-processor puts one ``<s>`` before a text; the chat template (that of LLaVA-1.5) writes none, so tokenising what it
renders, with the special tokens that the tokenizer adds by default, gives exactly one.

=====================================  =======================================================
``USER: <image>\\nIs there a cup``      ``<s> USER : <image>`` (64 times) ``\\n Is there a cup``
``Yes``, `` Yes``                      the same single token
``a cup, a fork.`` (decoded)           ``a cup , a fork .`` without the blanks before the marks
=====================================  =======================================================
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

from zoo.material.scenes import text
from zoo.material.scenes.sample import SIZE

PAD, BOS, EOS, UNK, IMAGE = "<pad>", "<s>", "</s>", "<unk>", "<image>"
SPECIAL = (PAD, BOS, EOS, UNK, IMAGE)
PATCH, MEAN, STD = 14, 0.5, 0.25
PATCHES = (SIZE // PATCH) ** 2
WORD = r"\n|[A-Za-z]+|[^\sA-Za-z]"

TEMPLATE = """
{%- macro said(content) -%}
    {%- if content is string -%}{{ content }}
    {%- else -%}
        {%- for part in content if part['type'] == 'image' -%}{{ '<image>\\n' }}{%- endfor -%}
        {%- for part in content if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}{{ said(message['content']) + ' ' }}
    {%- elif message['role'] == 'user' -%}{{ 'USER: ' + said(message['content']) }}
    {%- else -%}{{ ' ASSISTANT: ' + said(message['content']) + '</s>' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ ' ASSISTANT:' }}{%- endif -%}
"""


@functools.cache
def words() -> tuple[str, ...]:
    """Every token that is not special, the line feed first, then in the order of first appearance."""
    found = dict.fromkeys(["\n"])
    for line in text.vocabulary_texts():
        found.update(dict.fromkeys(re.findall(WORD, line)))
    return tuple(found)


@functools.cache
def vocabulary() -> dict[str, int]:
    """Token to id."""
    return {token: i for i, token in enumerate((*SPECIAL, *words()))}


def encode(line: str) -> list[int]:
    """Ids of a text without special tokens; equal to the tokenizer's, a hundred times faster."""
    known = vocabulary()
    return [known.get(token, known[UNK]) for token in re.findall(WORD, line)]


def build() -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template."""
    core = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNK))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed"), pre_tokenizers.Split(Regex(WORD), "isolated")]
    )
    core.post_processor = processors.TemplateProcessing(f"{BOS} $A", special_tokens=[(BOS, vocabulary()[BOS])])
    core.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), *_glue()])
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=BOS, eos_token=EOS, unk_token=UNK, pad_token=PAD, padding_side="left",
        extra_special_tokens={"image_token": IMAGE}, model_max_length=1024, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATE.strip()
    return tokenizer


def _glue() -> list[Any]:
    """No blank before a closing mark, after an opening one, or around a line feed."""
    before = [decoders.Replace(f" {mark}", mark) for mark in ".,?:)"]
    return [*before, decoders.Replace("( ", "("), decoders.Replace(" \n", "\n"), decoders.Replace("\n ", "\n")]


def processor() -> LlavaProcessor:
    """Tokenizer and image processor; one ``<image>`` becomes 64 tokens (CLIP's class token is dropped)."""
    images = CLIPImageProcessorPil(
        do_resize=True, size={"height": SIZE, "width": SIZE}, resample=2, do_center_crop=False,
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=[MEAN] * 3, image_std=[STD] * 3,
    )  # fmt: skip
    tokenizer = build()
    return LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, image_token=IMAGE, chat_template=tokenizer.chat_template,
    )  # fmt: skip


def save(folder: Path) -> None:
    """Everything that ``AutoProcessor.from_pretrained(folder)`` reads."""
    processor().save_pretrained(folder)
