"""The run id: a versioned hash of everything that can change a cell's numbers, and of nothing else.

In: model (weights, config and tokenizer digests, revision, dtype, backend, template), method and task (class, parameters, digest of
their source, digest of the task's data files), decoding, seed, limit, lowering. Out: device, batch size, paths, tracker, workers,
efficiency level. The same dictionary is stored in `config.json`, so the id can be computed from a stored result too.
No torch is imported here.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

VERSION = 1  # raise it when the engine changes numbers (prompts, decoding, attention) for the same configuration
DECODING = {"search": "greedy"}


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
    digests = digests or {}
    cls = type(part)
    params = {f.name: _plain(getattr(part, f.name)) for f in fields(part)}
    params = {k: digests.get(str(Path(v)), v) if isinstance(v, str) and v else v for k, v in params.items()}
    return {"target": f"{cls.__module__}.{cls.__qualname__}", "params": params, "source": class_source_digest(cls)}


def _plain(value: Any) -> Any:
    """Numbers that mean the same are written the same (8 and 8.0); containers become JSON's."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@lru_cache(maxsize=None)
def class_source_digest(cls: type) -> str:
    """Digest of the code a class is made of: its module's package (for tasks) or the modules of its ancestors (for methods).

    Contracts and the standard library are left out; comments, docstrings and layout do not count.
    """
    modules = {c.__module__ for c in cls.__mro__ if not c.__module__.startswith(("harness.contracts", "builtins", "abc", "typing"))}
    files: set[Path] = set()
    for name in modules:
        file = inspect.getsourcefile(sys.modules[name])
        if file is None:
            continue
        path = Path(file)
        is_task_package = name.startswith("tasks.") and path.parent.name != "tasks"
        files |= set(path.parent.rglob("*.py")) if is_task_package else {path}
    return sha256("".join(code_digest(f) for f in sorted(files)))[:16]


@lru_cache(maxsize=None)
def code_digest(path: Path) -> str:
    """Digest of a Python file's syntax tree without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node, clean=False):
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
