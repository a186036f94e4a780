"""Which images are captioned: a seeded sample of all, or a list of ids from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from harness.errors import UserError


def choose(images: Iterable[int], n: int | None, seed: int) -> list[int]:
    """`n` of the images (None: all, in ascending order). A larger `n` keeps the first ones, in their order."""
    known = sorted(images)
    if n is None:
        return known
    if n > len(known):
        raise UserError(
            f"chair.n_images is {n}, but the data has {len(known)} images: task.chair.n_images=null takes all of them."
        )
    return Random(seed).sample(known, len(known))[:n]


def read_ids(path: Path) -> list[int]:
    """The ids of a file, in its order: a JSON list, or one per line. File names such as `COCO_val2014_000000391895.jpg` do as well."""
    try:
        text = path.read_text("utf-8-sig")
        entries = json.loads(text) if text.lstrip().startswith("[") else text.split()
    except OSError as error:
        raise UserError(
            f"chair.ids {path} cannot be read ({error.strerror or error}): name a file of image ids."
        ) from error
    except ValueError as error:
        raise UserError(
            f"chair.ids {path} is neither a JSON list nor text with one image id per line ({error})."
        ) from error
    found = [_number(entry, path) for entry in entries]
    repeated = next((number for i, number in enumerate(found) if number in found[:i]), None)
    if not found or repeated is not None:
        reason = "is empty" if not found else f"holds the image {repeated} twice"
        raise UserError(f"chair.ids {path} {reason}: each image to caption must stand in it once.")
    return found


def _number(entry: Any, path: Path) -> int:
    """An id, or the number at the end of a file name."""
    match = re.search(r"(\d+)(?:\.[A-Za-z]+)?$", entry) if isinstance(entry, str) else None
    if match:
        return int(match.group(1))
    if isinstance(entry, int) and not isinstance(entry, bool):
        return entry
    raise UserError(
        f"chair.ids {path} holds {entry!r}, which is no image id: write numbers, or file names that end in one."
    )
