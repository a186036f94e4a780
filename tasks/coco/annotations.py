"""What is in the images: COCO instances and captions files, each value checked as it is read.

Generated tables take the same road as files, so whatever holds for scenes holds for COCO.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.disk.reading import Entry, as_entry, read_value, regular
from harness.errors import UserError

REMEDY = {
    "instances": (
        'Name an instances file in COCO\'s format: {"images": [{"id", "file_name"}], "annotations": [{"image_id", '
        '"category_id"}], "categories": [{"id", "name"}]}. `heed data task=chair out=FILE folder=DIR` writes one to look at.'
    ),
    "captions": (
        'Name a captions file in COCO\'s format: {"annotations": [{"image_id", "caption"}]}. `heed data task=chair '
        "out=FILE folder=DIR` writes one to look at."
    ),
}


@dataclass(frozen=True)
class Annotations:
    """The content of one or several instances files."""

    images: Mapping[int, str]  # image id -> file name, in file order
    categories: Mapping[int, str]  # category id -> name
    objects: Mapping[int, tuple[str, ...]]  # image id -> distinct category names in the order of first annotation


def read_instances(paths: Sequence[Path]) -> Annotations:
    """Several files are united (COCO's train and val). `UserError` naming the file that is no instances file."""
    found = [_instances(*_key(path)) for path in paths]
    return found[0] if len(found) == 1 else _united(found, paths)


def read_captions(paths: Sequence[Path]) -> dict[int, tuple[str, ...]]:
    """Image id -> its reference captions in file order; several files are united."""
    found: dict[int, tuple[str, ...]] = {}
    for path in paths:
        for image, texts in _captions(*_key(path)).items():
            found[image] = found.get(image, ()) + texts
    return found


def from_dict(instances: Any, where: str = "The instances table") -> Annotations:
    """From the object that an instances file holds; `where` names it in errors."""
    table = as_entry(instances, where, REMEDY["instances"])
    categories = _named(table.entries("categories", empty=True), "name", "category")
    images = _named(table.entries("images", empty=True), "file_name", "image")
    found: dict[int, dict[str, None]] = {image: {} for image in images}  # a dict of None is an ordered set
    for annotation in table.entries("annotations", empty=True):
        image, category = annotation.whole("image_id"), annotation.whole("category_id")
        if category not in categories:
            raise annotation.error(f"an annotation of image {image} has category {category}, which is not listed")
        found.setdefault(image, {})[categories[category]] = None
    return Annotations(images, categories, {image: tuple(names) for image, names in found.items()})


def _named(entries: Sequence[Entry], key: str, what: str) -> dict[int, str]:
    """id -> name, in file order; an id that stands for two things is refused."""
    found: dict[int, str] = {}
    for entry in entries:
        number, name = entry.whole("id"), entry.text(key)
        if found.setdefault(number, name) != name:
            raise entry.error(f"the {what} {number} is called '{name}' here and '{found[number]}' before")
    return found


def captions_from_dict(captions: Any, where: str = "The captions table") -> dict[int, tuple[str, ...]]:
    """From the object that a captions file holds; `where` names it in errors."""
    table = as_entry(captions, where, REMEDY["captions"])
    found: dict[int, list[str]] = {image.whole("id"): [] for image in table.entries("images", default=(), empty=True)}
    for annotation in table.entries("annotations", empty=True):
        found.setdefault(annotation.whole("image_id"), []).append(annotation.text("caption", blank=True))
    return {image: tuple(texts) for image, texts in found.items()}


# -- files -----------------------------------------------------------------------------------------------------------


def _key(path: Path) -> tuple[Path, int, int]:
    """What a cached file is known by: an edited one is read again."""
    regular(path, "COCO file")
    status = path.stat()
    return path, status.st_mtime_ns, status.st_size


@lru_cache(maxsize=8)
def _instances(path: Path, mtime: int, size: int) -> Annotations:
    found = from_dict(read_value(path, "COCO file", REMEDY["instances"]), str(path))
    if not found.images:
        raise UserError(f"{path} lists no images. {REMEDY['instances']}")
    return found


@lru_cache(maxsize=8)
def _captions(path: Path, mtime: int, size: int) -> dict[int, tuple[str, ...]]:
    return captions_from_dict(read_value(path, "COCO file", REMEDY["captions"]), str(path))


def _united(found: Sequence[Annotations], paths: Sequence[Path]) -> Annotations:
    """An image that stands in two files has the objects of both; a category id must mean the same in all of them."""
    images: dict[int, str] = {}
    categories: dict[int, str] = {}
    objects: dict[int, tuple[str, ...]] = {}
    for part, path in zip(found, paths, strict=True):
        for number, name in part.categories.items():
            if categories.setdefault(number, name) != name:
                other = categories[number]
                raise UserError(f"{path} calls category {number} '{name}', another instances file calls it '{other}'.")
        for number, name in part.images.items():
            images.setdefault(number, name)
        for number, names in part.objects.items():
            objects[number] = tuple(dict.fromkeys((*objects.get(number, ()), *names)))
    return Annotations(images, categories, objects)
