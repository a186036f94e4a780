"""Which images are captioned: a seeded sample of all, or a list of ids from a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from harness.disk.reading import named, parsed, read_text
from harness.errors import UserError

DIGITS = 18  # of an id: more are no 64 bit number


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
    text = read_text(path, "file of chair.ids")
    remedy = "Write a JSON list, or text with one image id per line."
    entries = parsed(text, f"chair.ids {path}", remedy) if text.lstrip().startswith("[") else text.split()
    found = [_number(entry, path) for entry in entries]
    repeated = next((number for number, times in Counter(found).items() if times > 1), None)
    if not found or repeated is not None:
        reason = "is empty" if not found else f"holds the image {repeated} twice"
        raise UserError(f"chair.ids {path} {reason}: each image to caption must stand in it once.")
    return found


def _number(entry: Any, path: Path) -> int:
    """An id, or the number at the end of a file name."""
    match = re.search(r"(\d+)(?:\.[A-Za-z]+)?$", entry) if isinstance(entry, str) else None
    if match and len(match.group(1)) <= DIGITS:
        return int(match.group(1))
    if isinstance(entry, int) and not isinstance(entry, bool):
        return entry
    raise UserError(
        f"chair.ids {path} holds {named(entry)}, which is no image id: write numbers, or file names that end in one."
    )
