"""Digests of a checkpoint folder: weights, configuration, tokenizer, image processor. Standard library only, no torch.

The weights digest belongs to the tensors, not to the files: every tensor's sha256 over (name, dtype, shape, bytes) is
added modulo 2^256, so it does not change when the same weights are sharded differently or carry other metadata. Reading
many gigabytes takes minutes, therefore each file's part is kept in `<cache>/heed/weights.json` under its resolved path and
what proves that it is the same file (`content.state`): sizes and times alone do not.

The safetensors layout (its documentation, section "format"): 8 bytes little-endian header length, a JSON header
`{name: {"dtype", "shape", "data_offsets"}}`, then the data.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from harness.disk.content import file_digest, unless_changed
from harness.disk.reading import read_object
from harness.disk.whole import write_bytes
from harness.errors import UserError

CHUNK = 1 << 22  # bytes per read
MODULUS = 1 << 256
MAX_HEADER = 100_000_000  # bytes; the format's own limit
VOLATILE = frozenset({
    "_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "_commit_hash",
    "_attn_implementation", "_attn_implementation_autoset", "tokenizer_file", "special_tokens_map_file", "is_local",
    "local_files_only", "model_max_length",
})  # fmt: skip
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip
# what this process found in the cache: a file of every checkpoint ever seen takes long to read
_met: dict[str, str] = {}
PROCESSOR_CLASSES = frozenset({"image_processor_type", "feature_extractor_type", "processor_class"})


def checkpoint_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; a missing or broken file is a `UserError`."""
    return dict(read_object(path, "file", "Copy the file again.").values)


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """The tensors of a safetensors file: name -> dtype, shape, data_offsets. A cut or broken file is a `UserError`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise UserError(f"{path} is not a complete safetensors file ({size} bytes); download or copy it again.")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            ends = [int(tensor["data_offsets"][1]) for tensor in header.values()]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            raise UserError(f"{path} has no readable safetensors header; download or copy it again.") from None
    need = 8 + length + max(ends, default=0)
    if size != need:
        raise UserError(f"{path} is cut or damaged: it has {size} bytes, its header promises {need}; copy it again.")
    return header


def weights_digest(files: Iterable[Path]) -> str:
    """sha256 of all tensors in `files`, independent of how they are sharded."""
    total = sum(int(_cached_part(path), 16) for path in files) % MODULUS
    return hashlib.sha256(f"{total:064x}".encode()).hexdigest()


def config_digest(config: Mapping[str, Any], stop: Any = None) -> str:
    """sha256 of a parsed `config.json` without keys that cannot change a number, and of the stop ids for generation."""
    return hashlib.sha256(_canonical({"config": _stable(config), "stop": stop})).hexdigest()


def tokenizer_digest(folder: Path | str) -> str:
    """sha256 of a folder's tokenizer files, chat templates included. `UserError` if there are none."""
    total = hashlib.sha256()
    files = _tokenizer_files(Path(folder))
    if not files:
        raise UserError(f"{folder} is no folder with a tokenizer.")
    for path in files:
        content = path.read_bytes()
        if path.name == "tokenizer_config.json":
            content = _canonical(_stable(checkpoint_json(path)))
        total.update(f"{path.name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def image_processor_config(folder: Path) -> dict[str, Any]:
    """What a folder says about its image processor; empty if nothing. In newer checkpoints it is a part of
    `processor_config.json` (`get_image_processor_dict`, transformers/image_processing_base.py).
    """
    whole = folder / "processor_config.json"
    part = checkpoint_json(whole).get("image_processor") if whole.is_file() else None
    if isinstance(part, dict):
        return part
    own = folder / "preprocessor_config.json"
    return checkpoint_json(own) if own.is_file() else {}


def processor_identity(folder: Path) -> str:
    """`<class>:<sha256>` of what turns pictures into tensors. Checkpoints name a class for torchvision or without; the
    one used is always the PIL one, so the name is reduced to that.
    """
    config = image_processor_config(folder)
    named = str(config.get("image_processor_type") or "")
    stable = {key: value for key, value in _stable(config).items() if key not in PROCESSOR_CLASSES}
    reader = folder / "qformer_tokenizer"
    content = {"config": stable, "qformer": tokenizer_digest(reader) if reader.is_dir() else None}
    base = named.removesuffix("Fast").removesuffix("Pil")
    return f"{base + 'Pil' if base else 'default'}:{hashlib.sha256(_canonical(content)).hexdigest()}"


def brought_code_digest(folder: Path) -> str:
    """sha256 of the Python files of a checkpoint that brings its own code."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        total.update(f"{path.name}\0{file_digest(path)}\n".encode())
    return total.hexdigest()


def cache_folder() -> Path:
    """Where heed keeps what it can make again: `$XDG_CACHE_HOME/heed`, by default `~/.cache/heed`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heed"


def cache_file() -> Path:
    """Where the parts of weight digests are kept."""
    return cache_folder() / "weights.json"


def _tokenizer_files(folder: Path) -> list[Path]:
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    templates = folder / "additional_chat_templates"
    return files + (sorted(templates.glob("*.jinja")) if templates.is_dir() else [])


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _stable(value: Any) -> Any:
    """`value` without the volatile keys, at any depth."""
    if isinstance(value, Mapping):
        return {key: _stable(item) for key, item in value.items() if key not in VOLATILE}
    return [_stable(item) for item in value] if isinstance(value, list) else value


def _cached_part(path: Path) -> str:
    place = str(path.resolve())

    def recall(now: str) -> str | None:
        key = f"{place}|{now}"
        known = _met.get(key) or _load_cache().get(key)
        return _met.setdefault(key, known) if known else None

    def keep(now: str, part: str) -> None:
        others = {k: v for k, v in _load_cache().items() if k.partition("|")[0] != place}
        _store({**others, f"{place}|{now}": part})

    return unless_changed(path, _part, recall, keep)


def _part(path: Path) -> str:
    """Sum over the tensors of one file, as 64 hexadecimal digits."""
    header = read_header(path)
    total = 0
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            digest = hashlib.sha256(_canonical([name, tensor["dtype"], tensor["shape"]]) + b"\0")
            file.seek(start + begin)
            _feed(digest, file, end - begin)
            total += int.from_bytes(digest.digest(), "big")
    return f"{total % MODULUS:064x}"


def _feed(digest: Any, file: BinaryIO, left: int) -> None:
    while left:
        block = file.read(min(left, CHUNK))
        if not block:
            raise UserError(f"{file.name} ended while it was read; copy it again.")
        digest.update(block)
        left -= len(block)


def _load_cache() -> dict[str, str]:
    """The kept parts; an unreadable or damaged cache counts as empty, it only costs time."""
    try:
        known = json.loads(cache_file().read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {
        str(k): v
        for k, v in known.items()
        if isinstance(v, str) and len(v) == 64 and not set(v) - set("0123456789abcdef")
    }


def _store(known: Mapping[str, str]) -> None:
    """A folder that cannot be written costs time and nothing else."""
    target = cache_file()
    with contextlib.suppress(OSError, UserError):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, json.dumps(dict(known)).encode())
