"""The run id: a versioned hash of everything that can change a cell's numbers, and of nothing else.

In: model (weights, config and tokenizer digests, revision, dtype, backend, template), method and task (class, parameters, digest of
their source and of every project or plug-in file that it imports, digest of the task's data files), decoding, seed, limit,
lowering, versions of the libraries that compute. Out: device, batch size, paths, tracker, workers, efficiency level,
tolerance for errors. The same dictionary is stored in `config.json`, so the id can be computed from a stored result too.
No torch is imported here.

Versions of the engine's numbers:

1. The first.
2. Helper files of plug-ins and versions of libraries are in the id, `allow_errors` and the paths of calibration data are
   not; numbers of the engine moved (usage per sample, statistics, positions and rows on which a method acts).
3. Methods that rewrite prompts do so before every turn of a conversation; pairs that a mask shows are counted from the mask
   itself where it is neither causal nor windowed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.identity.sources import class_sources

VERSION = 3  # raise it when the engine changes numbers (prompts, decoding, attention) for the same configuration
LIBRARIES = ("torch", "transformers")  # parts that compute with another one have its version among their own facts


def run_id(identity: Mapping[str, Any]) -> str:
    """16 hex digits of the sha256 of the canonical JSON of `identity`."""
    return run_id_of(written(identity))


def written(identity: Mapping[str, Any]) -> dict[str, str]:
    """The parts of an identity as canonical JSON: cells that have a part in common need it written once."""
    return {key: canonical(value) for key, value in identity.items()}


def run_id_of(parts: Mapping[str, str]) -> str:
    """`run_id` of the identity whose `written` parts these are."""
    return sha256("{" + ",".join(f"{canonical(key)}:{parts[key]}" for key in sorted(parts)) + "}")[:16]


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces, tuples as lists. 1.0 and 1 are written differently: `plain` makes equal parameters
    equal before.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def sha256(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def extension_identity(
    part: Any, digests: Mapping[str, str] | None = None, folders: Sequence[str] = ()
) -> dict[str, Any]:
    """Class, parameters and source digest of a method or task instance (a dataclass).

    `digests` (keyed by normalised path) replaces parameter values that are paths by the digest of what they name; parameters
    in `folders` are places alone, whose content is stated elsewhere.
    """
    cls = type(part)
    given = {f.name: plain(getattr(part, f.name)) for f in fields(part)}
    params = {k: _digested(v, digests or {}) for k, v in given.items()}
    params |= {k: "folder" for k in folders if given[k] is not None and params[k] == given[k]}
    return {"target": f"{cls.__module__}.{cls.__qualname__}", "params": params, "source": class_source_digest(cls)}


def _digested(value: Any, digests: Mapping[str, str]) -> Any:
    """Paths replaced by the digest of their files, also inside lists and dictionaries."""
    if isinstance(value, Mapping):
        return {k: _digested(v, digests) for k, v in value.items()}
    if isinstance(value, list):
        return [_digested(v, digests) for v in value]
    return digests.get(str(Path(value)), value) if isinstance(value, str) and value else value


def plain(value: Any) -> Any:
    """A parameter as it is stored: numbers that mean the same are written the same (8 and 8.0); containers and records
    become JSON's.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def class_source_digest(cls: type) -> str:
    """Digest of the code that a class is made of (see `sources`); comments, docstrings and layout do not count."""
    return sha256(canonical(class_sources(cls)))[:16]


@cache
def libraries() -> dict[str, str | None]:
    """The versions, major and minor, of what computes in every cell; a package that is not installed has None."""
    return {name: _minor(name) for name in LIBRARIES}


def _minor(name: str) -> str | None:
    try:
        return ".".join(metadata.version(name).split("+")[0].split(".")[:2])
    except metadata.PackageNotFoundError:
        return None
