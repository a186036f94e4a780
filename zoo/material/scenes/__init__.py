"""Generated scenes with exact ground truth: an image set in COCO format that needs no download.

    draw.image(scene(seed=1, index=0))      # RGB, 112 x 112
    instances, captions = coco(seed=1, n=500)

Importing this package is cheap: pillow and numpy are imported when something is drawn.
"""

from __future__ import annotations

from zoo.material.scenes.coco import coco, file_name, index_of, provenance, write
from zoo.material.scenes.sample import Placed, Scene, scene

__all__ = ["Placed", "Scene", "coco", "file_name", "index_of", "provenance", "scene", "write"]
