"""What identifies lm-eval tasks beside their options: their configurations, the code that these name, and their data."""

from __future__ import annotations

import hashlib
import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

from harness.disk.content import file_digest
from tasks.lm_eval.build import plain
from tasks.lm_eval.library import Loaded, Wanted, applied, load, quiet, version
from tasks.lm_eval.totals import config

# where data lie; their content counts by itself
PLACES = ("dataset_path", "dataset_kwargs", "dataset_name", "metadata")


@cache
def provenance(wanted: Wanted, limit: int | None) -> dict[str, str]:
    """Version of the library, digest of the tasks' configurations and code, digest of the documents."""
    loaded = load(wanted)
    return {
        "lm_eval": version(),
        "tasks": _sha(sorted((name, _configured(loaded, name)) for name in loaded.tasks)),
        "data": _sha(sorted((name, _data(loaded, name, limit)) for name in loaded.tasks)),
    }


def _configured(loaded: Loaded, name: str) -> Any:
    task = loaded.tasks[name]
    own = {k: v for k, v in config(task).items() if k not in PLACES}
    return [own, str(task.VERSION), _code(loaded.files.get(name))]


def _code(file: Path | None) -> list[str]:
    """Digests of the Python files beside a task of the user's own; the library's are told by its version."""
    if file is None or "/lm_eval/tasks/" in file.as_posix():
        return []
    return [file_digest(path) for path in sorted(file.parent.glob("*.py"))]


def _data(loaded: Loaded, name: str, limit: int | None) -> list[str]:
    """Digests of the evaluated documents and, where they are used, of those that few-shot examples come from."""
    task = loaded.tasks[name]
    with applied(name), quiet():
        examples = task.fewshot_docs() if task.get_config("num_fewshot") else None
    parts = [itertools.islice(loaded.docs[name], limit), *([] if examples is None else [examples])]
    found = []
    for docs in parts:
        digest = hashlib.sha256()
        for doc in docs:
            digest.update(json.dumps(plain(doc), sort_keys=True).encode() + b"\n")
        found.append(digest.hexdigest())
    return found


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
