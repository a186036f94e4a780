"""Shapes: what a `config.json` says about a model, without its weights. Known ones are files of `configs/shape/`; any
folder with a `config.json` is one too. No torch is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from harness.disk.reading import is_folder, user_path
from harness.errors import UserError, nearest
from harness.models import checkpoint
from harness.models.families import Family, family_of

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "shape"


@dataclass(frozen=True)
class Shape:
    """`config` is the parsed `config.json`; `folder` is where it came from, None for a known shape."""

    name: str
    config: dict[str, Any]
    family: Family
    folder: Path | None = None


def names() -> list[str]:
    """The shapes that are known by name."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def shape(name: str) -> Shape:
    """The shape called `name`: a known one, or a folder with a `config.json`. `UserError` otherwise."""
    if name in names():
        config: Any = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
        return Shape(name, config, family_of(config))
    folder = user_path(name)
    if not is_folder(folder):
        raise UserError(
            f"There is no shape '{name}': {nearest(name, names())} A shape is also any folder with a config.json "
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
