"""Image files: opened as RGB whatever they hold, refused with their name, digested by their content."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.disk.content import file_digest
from harness.disk.reading import regular
from harness.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 178_956_970  # pillow's own bound against decompression bombs
MISSING = "missing"


def open_image(path: Path) -> Image.Image:
    """The picture in mode RGB. `UserError` naming a file that is missing, truncated, no image, or far too large.

    Transparency is dropped, 16 bit grey keeps its upper 8 bits, and a camera's note on rotation is left alone, as
    annotations refer to the pixels as they are stored.
    """
    import struct

    from PIL import Image

    if os.path.exists(path):
        regular(path, "image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pillow warns about is refused or converted below
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
                image.load()
                return _rgb(image)
    except FileNotFoundError as error:
        raise UserError(f"The image {path} does not exist.") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"The image {path} is no image that pillow can read.") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"The image {path} has more than {MOST_PIXELS // 10**6} megapixels.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error) as error:
        raise UserError(f"The image {path} cannot be read ({error}).") from error


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):  # pillow would clip at 255, which leaves a white page
        import numpy as np

        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def inside(folder: Path, name: str) -> Path:
    """The file of a name that came with the data; names that lead out of the folder are refused."""
    parts = PurePosixPath(name)
    if not name.strip() or "\\" in name or "\0" in name or parts.is_absolute() or ".." in parts.parts:
        raise UserError(f"The image name {name!r} is not a name inside the folder {folder}.")
    return folder / parts


def content_digest(folder: Path, names: Iterable[str]) -> str:
    """One sha256 over names and bytes of the images of a folder; an absent one counts as missing."""
    digest = hashlib.sha256()
    for name in sorted(set(names)):
        try:
            path = inside(folder, name)
            content = file_digest(path) if path.is_file() else MISSING  # a device or a pipe is no picture
        except (OSError, ValueError):
            content = MISSING
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()
