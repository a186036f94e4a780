"""A GGUF file as a checkpoint folder: weights as float32 safetensors, configuration, tokenizer, chat template.

transformers reads the file and undoes the quantisation (exact in float32: a weight is scale x code + offset), but refuses
to save what came out of it, because it still calls it a quantised model. So its tensors are put into a plain model of the
same class, which is saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.models.quiet import quiet


def convert(file: Path, folder: Path, digits: bool = False) -> None:
    """Write the model and the tokenizer in `file` into `folder`. `digits`: numbers are split into single digits."""
    with quiet():
        _model(file, folder)
        _tokenizer(file, folder, digits)


def _model(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    read = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
    facts = read.config.to_dict()
    facts.pop("quantization_config", None)
    made: Any = type(read)(type(read.config).from_dict(facts))
    plain = made.to(torch.float32)
    plain.load_state_dict(read.state_dict())
    plain.generation_config = read.generation_config
    plain.save_pretrained(folder)


def _tokenizer(file: Path, folder: Path, digits: bool) -> None:
    """The reader builds GPT-2's pre-tokenizer for every byte-level vocabulary. Where the file only names another
    (`tokenizer.ggml.pre`, "smollm" for SmolLM2: llama.cpp splits single digits off first), it is put in here, as
    the published `tokenizer.json` has it.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    if digits:
        text = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
        single = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([single, text])
    tokenizer.save_pretrained(folder)
