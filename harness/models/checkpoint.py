"""Is this folder a checkpoint that can be loaded safely? Every check here reads small files only and needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError, nearest
from harness.models.digest import checkpoint_json, image_processor_config, read_header
from harness.models.families import Family
from harness.models.template import CLOCK

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TOKENIZER_CORE = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "vocab_size", "max_position_embeddings", "n_embd", "n_layer", "n_head", "n_positions",
)  # fmt: skip
STORED = ("float32", "bfloat16", "float16", "float64")  # number formats of checkpoints
CONVERT = (
    'python -c "from transformers import AutoModelForCausalLM as M; '
    "M.from_pretrained('{folder}', use_safetensors=False).save_pretrained('{folder}')\""
)


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed `config.json` of a checkpoint."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json, so it is not a checkpoint folder; name the folder that has one.")
    config = checkpoint_json(folder / "config.json")
    for key, value in config.items():
        if key.endswith("_config") and value is not None and not isinstance(value, dict):
            raise UserError(
                f"{folder / 'config.json'}: {key} must be an object, not {value!r:.40}; copy the file again."
            )
    return config


def check_config(config: Mapping[str, Any], folder: Path, family: Family) -> None:
    """`UserError` for values in `config.json` that no model can have: sizes below 1, an unknown number format."""
    for key in SIZES:
        value = text_value(config, family, key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(
                f"{folder / 'config.json'}: {key} is {value!r}, but it must be a whole number of at least 1; copy the file "
                "again, or correct it."
            )
    for part in (config, config.get("text_config") or {}):
        for key in ("dtype", "torch_dtype"):
            value = part.get(key)
            if value and str(value).removeprefix("torch.") not in STORED:
                raise UserError(f"{folder / 'config.json'}: {key} is {value!r}: {nearest(str(value), STORED)}")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, each of them complete. Pickled weights are refused."""
    if (folder / INDEX).is_file():
        names = sorted(set(checkpoint_json(folder / INDEX).get("weight_map", {}).values()))
        files = [folder / Path(str(name)).name for name in names]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise UserError(
                f"{folder} lacks {', '.join(missing[:3])} that {INDEX} lists; download or copy the checkpoint again."
            )
    else:
        files = [path for path in (folder / "model.safetensors",) if path.is_file()]
    if not files:
        raise _no_weights(folder)
    for path in files:
        read_header(path)
    return files


def check_tokenizer(folder: Path) -> None:
    """`UserError` if the folder has no tokenizer."""
    if not any((folder / name).is_file() for name in TOKENIZER_CORE):
        raise UserError(
            f"{folder} has no tokenizer (tokenizer.json); copy the tokenizer files there, "
            "or name another folder with tokenizer=<folder>."
        )


def check_processor(folder: Path, family: Family) -> None:
    """`UserError` if a vision-language checkpoint lacks what turns pictures into tensors."""
    if family.sight is None:
        return
    if not image_processor_config(folder):
        raise UserError(
            f"{folder} has no image processor: preprocessor_config.json (or processor_config.json with a part "
            f"image_processor) is expected for a model of family '{family.model_type}'; copy it from the original "
            "checkpoint."
        )
    if family.sight.qformer and not (folder / "qformer_tokenizer").is_dir():
        raise UserError(
            f"{folder} has no folder qformer_tokenizer, which the Q-Former of family '{family.model_type}' reads the "
            "question with; copy it from the original checkpoint."
        )


def text_value(config: Mapping[str, Any], family: Family, key: str) -> Any:
    """A value of the text part of a parsed `config.json`; older composite files keep it at the top."""
    part = config.get(family.text_config or "") or {}
    return part.get(key, config.get(key))


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer in `folder` brings a chat template."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    path = folder / "tokenizer_config.json"
    return path.is_file() and bool(checkpoint_json(path).get("chat_template"))


def template_asks_for_date(folder: Path) -> bool:
    """Whether the chat template in `folder` asks for today's date."""
    files = [folder / name for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")]
    return any(CLOCK.encode() in path.read_bytes() for path in files if path.is_file())


def check_code(config: Mapping[str, Any], folder: Path, trusted: bool) -> None:
    """`UserError` if the checkpoint wants to run its own Python code and nobody allowed it."""
    if "auto_map" in config and not trusted:
        raise UserError(
            f"{folder} brings its own Python code (auto_map in config.json), which is not run unless you ask for it; "
            "read the code and set trust_remote_code=true, or remove auto_map to use the library's own implementation."
        )


def stop_ids(folder: Path) -> Any:
    """The stop ids that `generation_config.json` declares; they decide where answers end."""
    path = folder / "generation_config.json"
    return checkpoint_json(path).get("eos_token_id") if path.is_file() else None


def stored_dtype(config: Mapping[str, Any], folder: Path) -> str:
    """The dtype a checkpoint was saved in: as `config.json` says, else as its first weight file says, else float32."""
    for part in (config, config.get("text_config") or {}):
        value = part.get("dtype") or part.get("torch_dtype")
        if value:
            return str(value).removeprefix("torch.")
    names = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    for path in sorted(folder.glob("*.safetensors"))[:1]:
        for tensor in read_header(path).values():
            if tensor["dtype"] in names:
                return names[tensor["dtype"]]
    return "float32"


def _no_weights(folder: Path) -> UserError:
    if any(path for pattern in PICKLES for path in folder.glob(pattern)):
        return UserError(
            f"{folder} has pickled weights only, which can run code when they are read; if you trust them, "
            f"convert them once with: {CONVERT.format(folder=folder)}"
        )
    other = sorted(path.name for path in folder.glob("*.safetensors"))
    hint = f" (found {', '.join(other[:3])}, but no {INDEX})" if other else ""
    return UserError(f"{folder} has no weights: model.safetensors or {INDEX} is expected{hint}.")
