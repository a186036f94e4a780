"""Where a task about images takes its data from: generated scenes, files in COCO's format, or a download.

The tasks `pope` and `chair` have the same fields for it; `Source.of(task)` reads them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.disk.reading import is_file, is_folder, user_path
from harness.errors import UserError, nearest
from tasks.coco.annotations import Annotations, captions_from_dict, from_dict, read_captions, read_instances
from tasks.coco.pictures import content_digest, inside, open_image

if TYPE_CHECKING:
    from PIL import Image

KINDS = ("scenes", "files", "hub")
SCENE_SEED = 500_000  # added to the task's seed: the scenes that zoo models are trained on have small seeds
Paths = str | Sequence[str] | None


@dataclass(frozen=True)
class Source:
    """One data set. `scenes`: number of generated images; the others name files and a folder (`kind` files)."""

    kind: str = "scenes"
    scenes: int = 60
    seed: int = 0
    instances: tuple[Path, ...] = ()
    captions: tuple[Path, ...] = ()
    folder: Path | None = None

    @classmethod
    def of(cls, task: Any, captions: Paths = None) -> Source:
        """From the fields `source`, `scenes`, `seed`, `instances` and `images` of a task; `captions`: files of them."""
        folder = user_path(task.images) if task.images else None
        return cls(task.source, task.scenes, task.seed, paths(task.instances), paths(captions), folder)

    def check(self, task: str, ways: str) -> None:
        """Raise `UserError` for a source that cannot be read. `ways`: a sentence with the ways to get the data."""
        if self.kind not in KINDS:
            raise UserError(f"{task}.source is {self.kind!r}: {nearest(self.kind, KINDS)}")
        if self.kind == "scenes" and self.scenes < 1:
            raise UserError(f"{task}.scenes is {self.scenes}: render at least 1.")
        if self.kind != "files":
            return
        for path in self.files():
            if not is_file(path):
                raise UserError(f"{task}: {absent(path)}. {ways}")
        if self.folder is None or not is_folder(self.folder):
            reason = "no folder of images is given" if self.folder is None else f"{self.folder} is no folder"
            raise UserError(f"{task}: {reason}. {ways}")

    def annotations(self) -> Annotations:
        """The objects of every image."""
        return _scene_tables(self.seed, self.scenes)[0] if self.kind == "scenes" else read_instances(self.instances)

    def references(self) -> dict[int, tuple[str, ...]]:
        """The reference captions of every image."""
        return _scene_tables(self.seed, self.scenes)[1] if self.kind == "scenes" else read_captions(self.captions)

    def image(self, name: str) -> Image.Image:
        """The picture of a file name, RGB; scenes are drawn on demand."""
        if self.kind != "scenes":
            if self.folder is None:
                raise UserError(f"There is no folder of images in which to look for {name!r}.")
            return open_image(inside(self.folder, name))
        from zoo.material import scenes

        try:
            index = scenes.index_of(name)
        except ValueError as error:
            raise UserError(f"{error}.") from error
        return scenes.draw.image(scenes.scene(SCENE_SEED + self.seed, index))

    def files(self) -> tuple[Path, ...]:
        """The annotation files; none for scenes."""
        return (*self.instances, *self.captions) if self.kind == "files" else ()

    def provenance(self, names: Iterable[str] = ()) -> dict[str, str]:
        """What the pixels depend on: the digest of generated ones, or one over the image files called `names`."""
        if self.kind == "scenes":
            return dict(_scene_provenance(self.seed))
        if self.kind == "files" and self.folder is not None:
            return {"images": content_digest(self.folder, names)}
        return {}

    def export(self, folder: Path) -> list[Path]:
        """Write generated scenes as COCO data (`images/`, `instances.json`, `captions.json`); nothing for other kinds."""
        if self.kind != "scenes":
            return []
        from zoo.material import scenes

        scenes.write(folder, SCENE_SEED + self.seed, self.scenes)
        images = [folder / "images" / scenes.file_name(index) for index in range(self.scenes)]
        return [*images, folder / "instances.json", folder / "captions.json"]


def absent(path: Path) -> str:
    """Why a path is no file that can be read."""
    if is_folder(path):
        return f"{path} is a folder, name the file in it"
    return f"{path} is no regular file" if os.path.exists(path) else f"the file {path} does not exist"


def paths(value: Paths) -> tuple[Path, ...]:
    """A path or a list of paths as a tuple, `~` expanded."""
    several = () if not value else (value,) if isinstance(value, str) else value
    return tuple(user_path(path) for path in several)


@lru_cache(maxsize=4)
def _scene_tables(seed: int, n: int) -> tuple[Annotations, dict[int, tuple[str, ...]]]:
    from zoo.material import scenes

    instances, captions = scenes.coco(SCENE_SEED + seed, n)
    return from_dict(instances), captions_from_dict(captions)


@lru_cache(maxsize=4)
def _scene_provenance(seed: int) -> tuple[tuple[str, str], ...]:
    from zoo.material import scenes

    return tuple(scenes.provenance(SCENE_SEED + seed).items())
