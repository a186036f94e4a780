"""Scenes as a data set in COCO format: ``instances`` and ``captions`` tables, and the images on disk.

The tables need no drawing. Annotations stand in random order within an image: POPE asks about the first three
categories, and any other order would poll only some kinds of objects.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from zoo.material.scenes import draw, text
from zoo.material.scenes.sample import CATEGORY_IDS, CORE, ROOMS, SIZE, UNSEEN, Scene, scene

REFERENCES = 5  # captions per image


def file_name(index: int) -> str:
    """``scene_000012.png``."""
    return f"scene_{index:06d}.png"


def index_of(name: str) -> int:
    """The inverse of ``file_name``; folders before the name do not matter."""
    stem = Path(name).stem
    if not stem.startswith("scene_") or not stem[6:].isdigit():
        raise ValueError(f"{name!r} is not the file name of a scene, such as {file_name(12)!r}")
    return int(stem[6:])


def coco(seed: int, n: int, core: float = CORE, unseen: float = UNSEEN) -> tuple[dict, dict]:
    """The instances and captions tables of scenes 0 to ``n - 1``; image ids are the indices. Boxes in pixels."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    for index in range(n):
        shown = scene(seed, index, core, unseen)
        images.append({"id": index, "file_name": file_name(index), "width": SIZE, "height": SIZE})
        for row in _annotations(shown, index):
            annotations.append({"id": len(annotations) + 1, **row})
        rng = shown.random("captions")
        for _ in range(REFERENCES):
            captions.append({"id": len(captions) + 1, "image_id": index, "caption": text.reference(shown, rng)})
    info = {"description": f"heed scenes, seed {seed}, core {core}, unseen {unseen}"}
    instances = {"info": info, "images": images, "annotations": annotations, "categories": categories()}
    return instances, {"info": info, "images": images, "annotations": captions}


def categories() -> list[dict[str, Any]]:
    """COCO ids and names; the super-category is the room, or ``anywhere``."""
    rooms = {name: room for room, (_, members) in ROOMS.items() for name in members}
    return [{"id": i, "name": n, "supercategory": rooms.get(n, "anywhere")} for n, i in CATEGORY_IDS.items()]


def _annotations(shown: Scene, image_id: int) -> list[dict[str, Any]]:
    rows = []
    for placed in shown.objects:
        x, y, w, h = placed.box
        rows.append({
            "image_id": image_id, "category_id": placed.category_id, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0,
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        })  # fmt: skip
    shown.random("annotations").shuffle(rows)
    return rows


def write(folder: Path, seed: int, n: int, core: float = CORE, unseen: float = UNSEEN) -> None:
    """``images/*.png``, ``instances.json`` and ``captions.json``; about 2 ms an image."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    instances, captions = coco(seed, n, core, unseen)
    for index in range(n):
        draw.image(scene(seed, index, core, unseen)).save(folder / "images" / file_name(index))
    (folder / "instances.json").write_text(json.dumps(instances), encoding="utf-8")
    (folder / "captions.json").write_text(json.dumps(captions), encoding="utf-8")


def provenance(seed: int, n_probe: int = 4, core: float = CORE, unseen: float = UNSEEN) -> dict[str, str]:
    """What the pixels depend on: ``scenes`` (sha256 of the first scenes' pixels, tables and the version), ``pillow``."""
    import PIL

    digest = hashlib.sha256(f"scenes {draw.VERSION}\n".encode())
    digest.update(json.dumps(coco(seed, n_probe, core, unseen), sort_keys=True).encode())
    for index in range(n_probe):
        digest.update(draw.image(scene(seed, index, core, unseen)).tobytes())
    return {"scenes": digest.hexdigest(), "pillow": PIL.__version__}
