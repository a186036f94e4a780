"""Shapes: what a `config.json` says about a model, without its weights. Known ones are option files of the group `shape`; any
folder with a `config.json` is one too. No torch is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import plugins
from harness.disk.reading import is_folder, user_path
from harness.errors import UserError, nearest
from harness.models import checkpoint
from harness.models.families import Family, family_of


@dataclass(frozen=True)
class Shape:
    """`config` is the parsed `config.json`; `folder` is where it came from, None for a known shape."""

    name: str
    config: dict[str, Any]
    family: Family
    folder: Path | None = None


def names() -> list[str]:
    """The shapes that are known by name."""
    return sorted(plugins.files("shape"))


def shape(name: str) -> Shape:
    """The shape called `name`: a known one, or a folder with a `config.json`. `UserError` otherwise."""
    known = plugins.files("shape")
    if name in known:
        config = plugins.read(known[name])
        return Shape(name, config, family_of(config))
    folder = user_path(name)
    if not is_folder(folder):
        raise UserError(
            f"There is no shape '{name}': {nearest(name, known)} A shape is also any folder with a config.json "
            "(./my-model; the weights need not be there)."
        )
    config = checkpoint.read_config(folder)
    family = family_of(config)
    if family.sight is not None:
        raise UserError(
            f"{folder} is a vision-language model; random weights are made for text models only. Name a text model's "
            "config.json, or bench the checkpoint itself: model=FOLDER."
        )
    return Shape(folder.resolve().name, config, family, folder)
