"""Models that ship inside a Python package, as a checkpoint folder that is installed with it.

The option file of such a model says where, in Hydra's notation: `path: pkg://zoo.micro_lm`. Then the option's name means the
folder wherever a model or tokenizer is named. The package itself is not imported.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from harness.config.plugins import files, read
from harness.errors import UserError
from harness.identity.sources import package_folders

PREFIX = "pkg://"


@cache
def names() -> tuple[str, ...]:
    """The model options whose checkpoint is installed with a package."""
    return tuple(sorted(name for name in files("model") if path_of(name)))


@cache
def path_of(name: str) -> str | None:
    """The `pkg://` path of the model option `name`; None for any other name."""
    file = files("model").get(name)
    node = read(file).get(name) if file else None
    path = node.get("path") if isinstance(node, dict) else None
    return path if isinstance(path, str) and path.startswith(PREFIX) else None


def name_of(path: str) -> str:
    """What people call the model at a `pkg://` path: the option that names it, else the path itself."""
    return next((name for name in names() if path_of(name) == path), path)


@cache
def folder(path: str) -> Path:
    """The folder that a `pkg://` path names. `UserError` if it is not installed."""
    package = path.removeprefix(PREFIX)
    found = next((place for place in package_folders(package) if place.is_dir()), None)
    if found is None:
        raise UserError(
            f"There is no model '{path}': no installed package holds the folder {package}. Install what should hold it again; "
            "a model in a folder of your own is named by its path, model=./FOLDER."
        )
    return found
