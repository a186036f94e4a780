"""What is in the images: COCO instances and captions files, read with pycocotools.

Generated tables take the same road as files, so whatever holds for scenes holds for COCO.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

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


def from_dict(instances: dict, where: str = "The instances table") -> Annotations:
    """From the object that an instances file holds; `where` names it in errors."""
    coco = _indexed(instances, where, "instances", ("images", "annotations", "categories"))
    try:
        categories = {int(i): str(entry["name"]) for i, entry in coco.cats.items()}
        images = {int(i): str(entry["file_name"]) for i, entry in coco.imgs.items()}
        objects: dict[int, tuple[str, ...]] = dict.fromkeys(images, ())
        for image, annotations in coco.imgToAnns.items():
            objects[int(image)] = tuple(dict.fromkeys(_category(a, categories) for a in annotations))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} is no COCO instances file ({_reason(error)}). {REMEDY['instances']}") from error
    return Annotations(images, categories, objects)


def captions_from_dict(captions: dict, where: str = "The captions table") -> dict[int, tuple[str, ...]]:
    """From the object that a captions file holds; `where` names it in errors."""
    if isinstance(captions, dict):  # captions have no categories, even where the file lists some
        captions = {key: value for key, value in captions.items() if key != "categories"}
    coco = _indexed(captions, where, "captions", ("annotations",))
    try:
        found: dict[int, tuple[str, ...]] = {int(image): () for image in coco.imgs}
        for image, annotations in coco.imgToAnns.items():
            found[int(image)] = tuple(str(a["caption"]) for a in annotations)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} is no COCO captions file ({_reason(error)}). {REMEDY['captions']}") from error
    return found


# -- files -----------------------------------------------------------------------------------------------------------


def _key(path: Path) -> tuple[Path, int, int]:
    """What a cached file is known by: an edited one is read again."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"The COCO file {path} cannot be read ({error.strerror or error}). Check the name.") from error
    return path, status.st_mtime_ns, status.st_size


@lru_cache(maxsize=8)
def _instances(path: Path, mtime: int, size: int) -> Annotations:
    found = from_dict(_loaded(path, "instances"), str(path))
    if not found.images:
        raise UserError(f"{path} lists no images. {REMEDY['instances']}")
    return found


@lru_cache(maxsize=8)
def _captions(path: Path, mtime: int, size: int) -> dict[int, tuple[str, ...]]:
    return captions_from_dict(_loaded(path, "captions"), str(path))


def _loaded(path: Path, kind: str) -> Any:
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UserError(f"The COCO file {path} cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no COCO file: it is not JSON ({error}). {REMEDY[kind]}") from error


def _category(annotation: Mapping[str, Any], categories: Mapping[int, str]) -> str:
    number = int(annotation["category_id"])
    if number not in categories:
        raise ValueError(f"an annotation of image {annotation['image_id']} has category {number}, which is not listed")
    return categories[number]


def _indexed(table: Any, where: str, kind: str, keys: Sequence[str]) -> Any:
    """A `COCO` object over a table; pycocotools tells its progress to stdout, which is ours."""
    from pycocotools.coco import COCO

    missing = [key for key in keys if not isinstance(table.get(key), list)] if isinstance(table, dict) else list(keys)
    if missing:
        lists = ", ".join(missing)
        raise UserError(f"{where} is no COCO file: it needs a JSON object with the list(s) {lists}. {REMEDY[kind]}")
    for key in keys:
        wrong = next((i for i, entry in enumerate(table[key]) if not isinstance(entry, dict)), None)
        if wrong is not None:
            raise UserError(f"{where} is no COCO file: entry {wrong} of its {key} is no object. {REMEDY[kind]}")
    coco = COCO()
    coco.dataset = table
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
    except (KeyError, TypeError) as error:
        raise UserError(f"{where} is no COCO file ({_reason(error)}). {REMEDY[kind]}") from error
    return coco


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


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
