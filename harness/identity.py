"""The run id: a versioned hash of everything that can change a cell's numbers, and of nothing else.

In: model (weights, config and tokenizer digests, revision, dtype, backend, template), method and task (class, parameters, digest of
their source, digest of the task's data files), decoding, seed, limit, lowering. Out: device, batch size, paths, tracker, workers,
efficiency level. The same dictionary is stored in `config.json`, so the id can be computed from a stored result too.
No torch is imported here.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

VERSION = 1  # raise it when the engine changes numbers (prompts, decoding, attention) for the same configuration


def run_id(identity: Mapping[str, Any]) -> str:
    """16 hex digits of the sha256 of the canonical JSON of `identity`."""
    return sha256(canonical(identity))[:16]


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; tuples equal lists, 1.0 stays different from 1 only where the parameters differ."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def sha256(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def extension_identity(part: Any, digests: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Class, parameters and source digest of a method or task instance (a dataclass).

    `digests` (keyed by normalised path) replaces parameter values that are paths by the digest of what they name.
    """
    cls = type(part)
    params = {f.name: _plain(getattr(part, f.name)) for f in fields(part)}
    params = {k: _digested(v, digests or {}) for k, v in params.items()}
    params |= {k: "folder" for k in getattr(cls, "folders", ()) if params[k] is not None}
    return {"target": f"{cls.__module__}.{cls.__qualname__}", "params": params, "source": class_source_digest(cls)}


def _digested(value: Any, digests: Mapping[str, str]) -> Any:
    """Paths replaced by the digest of their files, also inside lists and dictionaries."""
    if isinstance(value, Mapping):
        return {k: _digested(v, digests) for k, v in value.items()}
    if isinstance(value, list):
        return [_digested(v, digests) for v in value]
    return digests.get(str(Path(value)), value) if isinstance(value, str) and value else value


def _plain(value: Any) -> Any:
    """Numbers that mean the same are written the same (8 and 8.0); containers become JSON's."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def class_source_digest(cls: type) -> str:
    """Digest of the code that a class is made of: the modules of its ancestors and what they import from their own top package.

    Contracts, the engine and libraries are left out (`VERSION` and the lock file stand for them); comments, docstrings and
    layout do not count.
    """
    return _modules_digest(tuple(sorted({c.__module__ for c in cls.__mro__} - {"builtins", "abc", "typing"})))


@cache
def _modules_digest(modules: tuple[str, ...]) -> str:
    files: dict[str, str] = {}
    waiting = [m for m in modules if not m.startswith("harness.")]
    while waiting:
        name = waiting.pop()
        file = module_file(name)
        if name not in files and file is not None:
            files[name] = code_digest(file)
            waiting += [m for m in imported(file, name) if m.split(".")[0] == name.split(".")[0]]
    return sha256(canonical(files))[:16]


def module_file(name: str) -> Path | None:
    """The source file of an importable module, without importing it; None if there is none."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def imported(file: Path, name: str) -> Iterator[str]:
    """Names of modules that a file may import (`from a import b` names both a and a.b)."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (parent, node.module or "") if part)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def code_digest(path: Path) -> str:
    """Digest of a Python file's syntax tree without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:]
    return sha256(ast.dump(tree))


@lru_cache(maxsize=256)
def file_digest(path: Path) -> str:
    """sha256 of a data file."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
