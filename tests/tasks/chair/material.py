"""A small data set in COCO's format, and helpers to score captions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.analysis.statistics import aggregate
from harness.contracts.example import Example
from tasks.chair import Chair
from tasks.chair.count import mentions
from tasks.chair.normalise import normaliser
from tasks.chair.vocabulary import read

# Invented: image id -> annotated categories, reference captions.
IMAGES: Mapping[int, tuple[Sequence[str], Sequence[str]]] = {
    310: (("dog",), ("A man walks his dog.",)),
    42: (("cat", "couch"), ("A kitten sleeps.", "A kitten on a sofa.")),
    7: (("bus",), ()),
    99: ((), ("Hills under a grey sky.",)),
}


def write_coco(folder: Path, images: Mapping[int, tuple[Sequence[str], Sequence[str]]] = IMAGES) -> dict[str, str]:
    """`instances.json`, `captions.json` and small pictures; the paths as options of the task."""
    from PIL import Image

    names = list(dict.fromkeys(name for objects, _ in images.values() for name in objects))
    entries = [{"id": i, "file_name": f"{i:06}.jpg", "width": 8, "height": 8} for i in images]
    annotations = [
        {"id": 100 * i + j, "image_id": i, "category_id": names.index(name) + 1, "bbox": [0, 0, 1, 1], "area": 1,
         "iscrowd": 0}
        for i, (objects, _) in images.items()
        for j, name in enumerate(objects)
    ]  # fmt: skip
    captions = [
        {"id": 100 * i + j, "image_id": i, "caption": text}
        for i, (_, texts) in images.items()
        for j, text in enumerate(texts)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for entry in entries:
        Image.new("RGB", (8, 8), (entry["id"] % 256, 0, 0)).save(folder / "images" / str(entry["file_name"]))
    instances = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "captions.json").write_text(json.dumps({"images": entries, "annotations": captions}))
    return {
        "instances": str(folder / "instances.json"),
        "captions": str(folder / "captions.json"),
        "images": str(folder / "images"),
    }


def nodes(caption: str, name: str = "builtin", **options: Any) -> list[str]:
    """The objects of a caption, in order and with repetitions."""
    vocabulary = read()
    return list(mentions(normaliser(name, vocabulary, **options)(caption), vocabulary).nodes)


def example(truth: Sequence[str], name: str = "1") -> Example:
    return Example(id=name, cluster=name, task="chair", meta={"image_id": int(name), "gt": sorted(truth)})


def totals(rows: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Every metric of the task over the metrics of several captions."""
    return {metric.name: aggregate(metric, rows).value for metric in Chair.metrics}
