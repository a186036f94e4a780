"""Where a result comes from: versions, hardware, commit and times. Facts for people: no run id depends on them."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import harness

PACKAGES = (
    "torch", "transformers", "tokenizers", "datasets", "numpy", "scipy", "lm-eval", "kvpress", "triton",
    "flash-linear-attention",
)  # fmt: skip


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@functools.cache
def _facts() -> dict[str, Any]:
    return {
        "heed": harness.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }


def collect() -> dict[str, Any]:
    """What this process runs on. No package is imported for it."""
    return dict(_facts())


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def commit() -> str:
    """The commit of the source tree heed runs from, with `+` if files differ from it; empty outside a git checkout."""
    root = Path(harness.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return ""
    head = _git(root, "rev-parse", "HEAD")
    return head + ("+" if head and _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *args: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *args]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
