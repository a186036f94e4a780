"""COCO's usual folder of annotations stands for the files of 2014 in it."""

from __future__ import annotations

from harness.disk.reading import is_file, is_folder
from tasks.coco.source import Paths, paths

SPLITS = ("train2014", "val2014")


def expand(kind: str, value: Paths) -> Paths:
    """Files by name; a folder becomes its `<kind>_train2014.json` and `<kind>_val2014.json`, as far as they are there.

    >>> expand("captions", ["a.json"])
    'a.json'
    """
    found: list[str] = []
    for path in paths(value):
        inside = [path / f"{kind}_{split}.json" for split in SPLITS] if is_folder(path) else []
        found += [str(p) for p in inside if is_file(p)] or [str(path)]
    return tuple(found) if len(found) > 1 else next(iter(found), None)
