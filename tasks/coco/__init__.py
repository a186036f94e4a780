"""Data in the format of Microsoft COCO (arXiv 1405.0312), shared by the tasks that ask about images.

Importing this package is cheap: pillow and numpy are imported when something is read.
"""

from tasks.coco.annotations import Annotations, captions_from_dict, from_dict, read_captions, read_instances
from tasks.coco.pictures import content_digest, open_image
from tasks.coco.source import SCENE_SEED, Source

__all__ = [
    "SCENE_SEED",
    "Annotations",
    "Source",
    "captions_from_dict",
    "content_digest",
    "from_dict",
    "open_image",
    "read_captions",
    "read_instances",
]
