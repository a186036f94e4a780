"""How a scene looks: pictograms of a few primitives on a two-tone background, with blur, transparency and noise.

A pictogram is data: primitives in a unit box (x to the right, y downwards), painted in order at twice the size and then
reduced. The noise comes from numpy's legacy generator, whose stream is frozen. Pillow may paint a curve one pixel
differently in another version; ``zoo.material.scenes.provenance`` therefore states a digest of the pixels.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from zoo.material.scenes.sample import CATEGORIES, SIZE, Placed, Scene

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw

VERSION = 1  # raise it whenever pixels change
Primitive = tuple[str, tuple[float, ...], str]  # kind, coordinates in the unit box, colour

# rect, oval: left top right bottom; pie: the same and start, end in degrees clockwise from the right; poly: x y pairs;
# line, ring: coordinates and the stroke's width as a share of the shorter side.
PICTOGRAMS: dict[str, tuple[Primitive, ...]] = {
    "person": (
        ("rect", (0.22, 0.24, 0.78, 0.62), "2f55c8"), ("rect", (0.0, 0.26, 0.2, 0.58), "e8b48c"),
        ("rect", (0.8, 0.26, 1.0, 0.58), "e8b48c"), ("rect", (0.24, 0.6, 0.47, 1.0), "2a2a3c"),
        ("rect", (0.53, 0.6, 0.76, 1.0), "2a2a3c"), ("oval", (0.27, 0.0, 0.73, 0.24), "e8b48c"),
    ),
    "chair": (
        ("rect", (0.0, 0.0, 0.2, 1.0), "b5651d"), ("rect", (0.0, 0.48, 1.0, 0.64), "d9822b"),
        ("rect", (0.8, 0.6, 1.0, 1.0), "b5651d"), ("rect", (0.0, 0.05, 0.32, 0.3), "d9822b"),
    ),
    "bottle": (
        ("rect", (0.3, 0.0, 0.7, 0.35), "1f8a4c"), ("rect", (0.25, 0.0, 0.75, 0.12), "f0d020"),
        ("rect", (0.02, 0.34, 0.98, 1.0), "1f8a4c"), ("rect", (0.02, 0.52, 0.98, 0.8), "f4f4ec"),
    ),
    "cell phone": (
        ("rect", (0.0, 0.0, 1.0, 1.0), "141418"), ("rect", (0.14, 0.1, 0.86, 0.78), "ff5fc0"),
        ("oval", (0.38, 0.82, 0.62, 0.95), "d0d0d0"),
    ),
    "dining table": (
        ("poly", (0.15, 0.0, 0.85, 0.0, 1.0, 0.35, 0.0, 0.35), "c98b4a"), ("rect", (0.0, 0.33, 1.0, 0.46), "8a5424"),
        ("rect", (0.05, 0.45, 0.17, 1.0), "8a5424"), ("rect", (0.83, 0.45, 0.95, 1.0), "8a5424"),
    ),
    "cup": (
        ("ring", (0.5, 0.25, 1.0, 0.78, 0.12), "4a86e8"), ("rect", (0.0, 0.1, 0.72, 1.0), "4a86e8"),
        ("oval", (0.0, 0.0, 0.72, 0.24), "5a3418"), ("rect", (0.0, 0.5, 0.72, 0.62), "ffffff"),
    ),
    "fork": (
        ("rect", (0.38, 0.4, 0.62, 1.0), "d8d8e0"), ("rect", (0.0, 0.32, 1.0, 0.48), "d8d8e0"),
        ("rect", (0.0, 0.0, 0.2, 0.4), "d8d8e0"), ("rect", (0.4, 0.0, 0.6, 0.4), "d8d8e0"),
        ("rect", (0.8, 0.0, 1.0, 0.4), "d8d8e0"),
    ),
    "bowl": (
        ("pie", (0.0, -0.85, 1.0, 1.0, 0, 180), "e0502c"), ("oval", (0.0, 0.0, 1.0, 0.36), "fbe6c8"),
        ("oval", (0.15, 0.06, 0.85, 0.3), "7cb342"),
    ),
    "laptop": (
        ("rect", (0.1, 0.0, 0.9, 0.68), "3a3a44"), ("rect", (0.17, 0.07, 0.83, 0.6), "58a0f0"),
        ("poly", (0.1, 0.7, 0.9, 0.7, 1.0, 1.0, 0.0, 1.0), "b8b8c0"), ("rect", (0.35, 0.82, 0.65, 0.93), "6a6a74"),
    ),
    "keyboard": (
        ("rect", (0.0, 0.0, 1.0, 1.0), "2e2e36"),
        *(("rect", (0.06 + 0.16 * i, 0.12 + 0.28 * j, 0.17 + 0.16 * i, 0.32 + 0.28 * j), "f0f0f0")
          for j in range(3) for i in range(6)),
    ),
    "mouse": (
        ("line", (0.5, 0.0, 0.5, 0.2, 0.12), "303030"), ("oval", (0.0, 0.15, 1.0, 1.0), "f2f2f2"),
        ("pie", (0.0, 0.15, 1.0, 1.0, 180, 270), "e04848"), ("line", (0.5, 0.16, 0.5, 0.56, 0.1), "404040"),
    ),
    "book": (
        ("poly", (0.0, 0.0, 0.5, 0.14, 1.0, 0.0, 1.0, 0.88, 0.5, 1.0, 0.0, 0.88), "8c1c3c"),
        ("poly", (0.07, 0.09, 0.47, 0.2, 0.47, 0.9, 0.07, 0.8), "fdf6e0"),
        ("poly", (0.53, 0.2, 0.93, 0.09, 0.93, 0.8, 0.53, 0.9), "fdf6e0"),
        ("line", (0.13, 0.36, 0.41, 0.44, 0.06), "707070"), ("line", (0.59, 0.44, 0.87, 0.36, 0.06), "707070"),
        ("line", (0.13, 0.56, 0.41, 0.64, 0.06), "707070"), ("line", (0.59, 0.64, 0.87, 0.56, 0.06), "707070"),
    ),
    "couch": (
        ("rect", (0.1, 0.0, 0.9, 0.6), "7b3fa0"), ("rect", (0.12, 0.48, 0.88, 0.84), "a86cd0"),
        ("rect", (0.0, 0.3, 0.16, 0.9), "5e2b80"), ("rect", (0.84, 0.3, 1.0, 0.9), "5e2b80"),
        ("rect", (0.05, 0.88, 0.15, 1.0), "302010"), ("rect", (0.85, 0.88, 0.95, 1.0), "302010"),
    ),
    "tv": (
        ("rect", (0.0, 0.0, 1.0, 0.8), "101014"), ("rect", (0.06, 0.07, 0.94, 0.72), "20b8a8"),
        ("poly", (0.06, 0.72, 0.4, 0.35, 0.65, 0.72), "f0e060"), ("rect", (0.44, 0.8, 0.56, 0.92), "101014"),
        ("rect", (0.25, 0.9, 0.75, 1.0), "101014"),
    ),
    "vase": (
        ("line", (0.5, 0.5, 0.2, 0.12, 0.1), "2e9e3e"), ("line", (0.5, 0.5, 0.8, 0.12, 0.1), "2e9e3e"),
        ("line", (0.5, 0.5, 0.5, 0.1, 0.1), "2e9e3e"), ("oval", (0.0, 0.04, 0.36, 0.24), "f04070"),
        ("oval", (0.64, 0.04, 1.0, 0.24), "f04070"), ("oval", (0.32, 0.0, 0.68, 0.2), "ffd030"),
        ("poly", (0.34, 0.42, 0.66, 0.42, 0.9, 0.7, 0.72, 1.0, 0.28, 1.0, 0.1, 0.7), "3050b0"),
    ),
    "clock": (
        ("oval", (0.0, 0.0, 1.0, 1.0), "202020"), ("oval", (0.1, 0.1, 0.9, 0.9), "fafafa"),
        ("line", (0.5, 0.5, 0.5, 0.18, 0.09), "d01010"), ("line", (0.5, 0.5, 0.74, 0.62, 0.09), "101010"),
    ),
    "car": (
        ("poly", (0.2, 0.42, 0.34, 0.0, 0.7, 0.0, 0.86, 0.42), "b8e0ff"), ("rect", (0.0, 0.38, 1.0, 0.8), "e02020"),
        ("rect", (0.49, 0.0, 0.54, 0.4), "e02020"), ("oval", (0.12, 0.6, 0.34, 1.0), "181818"),
        ("oval", (0.66, 0.6, 0.88, 1.0), "181818"), ("rect", (0.92, 0.46, 1.0, 0.58), "ffe860"),
    ),
    "truck": (
        ("rect", (0.0, 0.0, 0.66, 0.76), "f2a020"), ("rect", (0.68, 0.24, 1.0, 0.8), "2860b0"),
        ("rect", (0.8, 0.3, 0.98, 0.5), "c8ecff"), ("rect", (0.0, 0.72, 1.0, 0.82), "404040"),
        ("oval", (0.08, 0.68, 0.28, 1.0), "181818"), ("oval", (0.4, 0.68, 0.6, 1.0), "181818"),
        ("oval", (0.74, 0.68, 0.94, 1.0), "181818"),
    ),
    "bicycle": (
        ("ring", (0.0, 0.36, 0.42, 1.0, 0.09), "181818"), ("ring", (0.58, 0.36, 1.0, 1.0, 0.09), "181818"),
        ("line", (0.21, 0.68, 0.38, 0.25, 0.1), "18b050"), ("line", (0.38, 0.25, 0.7, 0.25, 0.1), "18b050"),
        ("line", (0.7, 0.1, 0.79, 0.68, 0.1), "18b050"), ("line", (0.5, 0.68, 0.7, 0.25, 0.1), "18b050"),
        ("line", (0.21, 0.68, 0.5, 0.68, 0.1), "18b050"), ("line", (0.62, 0.05, 0.82, 0.05, 0.1), "181818"),
    ),
    "stop sign": (
        ("rect", (0.44, 0.5, 0.56, 1.0), "909090"),
        ("poly", (0.3, 0.0, 0.7, 0.0, 1.0, 0.18, 1.0, 0.42, 0.7, 0.6, 0.3, 0.6, 0.0, 0.42, 0.0, 0.18), "d01818"),
        ("rect", (0.16, 0.24, 0.84, 0.37), "ffffff"),
    ),
    "cow": (
        ("rect", (0.1, 0.2, 0.8, 0.68), "f8f8f4"), ("rect", (0.12, 0.64, 0.22, 1.0), "e8e0d8"),
        ("rect", (0.3, 0.64, 0.4, 1.0), "e8e0d8"), ("rect", (0.52, 0.64, 0.62, 1.0), "e8e0d8"),
        ("rect", (0.68, 0.64, 0.78, 1.0), "e8e0d8"), ("oval", (0.18, 0.24, 0.42, 0.52), "181818"),
        ("oval", (0.5, 0.36, 0.72, 0.66), "181818"), ("rect", (0.76, 0.04, 1.0, 0.4), "181818"),
        ("rect", (0.86, 0.26, 1.0, 0.4), "f0a0a0"), ("line", (0.1, 0.24, 0.02, 0.6, 0.07), "181818"),
    ),
    "sheep": (
        ("rect", (0.22, 0.6, 0.32, 1.0), "202020"), ("rect", (0.6, 0.6, 0.7, 1.0), "202020"),
        ("oval", (0.0, 0.1, 0.5, 0.75), "fdfdf6"), ("oval", (0.3, 0.0, 0.75, 0.6), "fdfdf6"),
        ("oval", (0.4, 0.2, 0.88, 0.8), "fdfdf6"), ("oval", (0.15, 0.25, 0.6, 0.85), "fdfdf6"),
        ("oval", (0.74, 0.14, 1.0, 0.52), "202020"),
    ),
    "horse": (
        ("oval", (0.1, 0.32, 0.78, 0.7), "7a4218"), ("poly", (0.6, 0.45, 0.72, 0.05, 0.9, 0.05, 0.78, 0.55), "7a4218"),
        ("poly", (0.72, 0.0, 1.0, 0.18, 0.96, 0.3, 0.72, 0.22), "7a4218"), ("rect", (0.18, 0.58, 0.28, 1.0), "5a2e10"),
        ("rect", (0.34, 0.6, 0.43, 1.0), "5a2e10"), ("rect", (0.56, 0.6, 0.65, 1.0), "5a2e10"),
        ("rect", (0.68, 0.56, 0.77, 1.0), "5a2e10"), ("line", (0.6, 0.38, 0.72, 0.04, 0.09), "201008"),
        ("line", (0.13, 0.42, 0.02, 0.75, 0.09), "201008"),
    ),
    "dog": (
        ("rect", (0.15, 0.4, 0.75, 0.74), "e0b060"), ("rect", (0.17, 0.7, 0.29, 1.0), "e0b060"),
        ("rect", (0.6, 0.7, 0.72, 1.0), "e0b060"), ("oval", (0.6, 0.08, 1.0, 0.54), "e0b060"),
        ("oval", (0.58, 0.04, 0.74, 0.44), "6a3c10"), ("oval", (0.9, 0.24, 1.0, 0.38), "101010"),
        ("line", (0.17, 0.46, 0.02, 0.12, 0.1), "6a3c10"),
    ),
    "boat": (
        ("poly", (0.0, 0.72, 1.0, 0.72, 0.82, 1.0, 0.18, 1.0), "9c4a1a"), ("rect", (0.46, 0.0, 0.52, 0.74), "503010"),
        ("poly", (0.54, 0.02, 0.54, 0.66, 0.96, 0.66), "ffffff"), ("poly", (0.44, 0.12, 0.44, 0.66, 0.1, 0.66), "f05050"),
    ),
    "kite": (
        ("line", (0.5, 0.7, 0.3, 0.85, 0.07), "303030"), ("line", (0.3, 0.85, 0.6, 1.0, 0.07), "303030"),
        ("poly", (0.5, 0.0, 0.5, 0.3, 0.0, 0.3), "f03030"), ("poly", (0.5, 0.0, 1.0, 0.3, 0.5, 0.3), "ffd820"),
        ("poly", (0.0, 0.3, 0.5, 0.3, 0.5, 0.74), "30b0f0"), ("poly", (0.5, 0.3, 1.0, 0.3, 0.5, 0.74), "30c040"),
    ),
    "surfboard": (
        ("oval", (0.0, 0.0, 1.0, 1.0), "ff9020"), ("rect", (0.42, 0.04, 0.58, 0.96), "ffffff"),
        ("rect", (0.04, 0.42, 0.96, 0.56), "2040a0"),
    ),
    "umbrella": (
        ("line", (0.5, 0.4, 0.5, 0.95, 0.07), "303030"), ("line", (0.5, 0.95, 0.66, 0.95, 0.07), "303030"),
        ("pie", (0.0, 0.0, 1.0, 1.0, 180, 360), "c020a0"), ("pie", (0.0, 0.0, 1.0, 1.0, 225, 270), "fff0a0"),
        ("pie", (0.0, 0.0, 1.0, 1.0, 315, 360), "fff0a0"),
    ),
}  # fmt: skip
BACKGROUNDS = {  # above and below the horizon
    "dining room": ("ead9b4", "a9764a"), "office": ("cfd8dc", "8d99a6"), "living room": ("d9c7d6", "93806f"),
    "street": ("a9c4de", "6e6e72"), "farm": ("9fd0f0", "6fae4a"), "beach": ("8fd0ea", "e6d39a"),
}  # fmt: skip


def image(scene: Scene) -> Image.Image:
    """The scene, RGB, 112 x 112."""
    return render(scene)[0]


def render(scene: Scene) -> tuple[Image.Image, np.ndarray]:
    """The image and, per pixel, which visible category covers it: ``[112, 112]`` uint8, index + 1, 0 for none."""
    import numpy as np
    from PIL import Image, ImageChops

    rng = scene.random("draw")
    canvas = _background(scene.room, rng)
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for placed in sorted(scene.objects, key=lambda p: -p.box[2] * p.box[3]):  # small ones in front
        layer = _pictogram(placed, rng)
        alpha = layer.getchannel("A")
        veil = Image.new("L", layer.size, round(255 * placed.opacity))
        canvas.paste(layer.convert("RGB"), placed.box[:2], ImageChops.multiply(alpha, veil))
        if placed.opacity > 0.2:
            x, y, width, height = placed.box
            labels[y : y + height, x : x + width][np.asarray(alpha) > 127] = CATEGORIES.index(placed.category) + 1
    noise = np.random.RandomState(rng.getrandbits(32)).standard_normal((SIZE, SIZE, 3)) * rng.uniform(2.0, 26.0)
    pixels = np.clip(np.rint(np.asarray(canvas, dtype=np.float64) + noise), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels), labels


def _background(room: str, rng: random.Random) -> Image.Image:
    from PIL import Image

    upper, lower = (_jitter(colour, rng, 18) for colour in BACKGROUNDS[room])
    canvas = Image.new("RGB", (SIZE, SIZE), upper)
    canvas.paste(lower, (0, rng.randint(45, 70), SIZE, SIZE))
    return canvas


def _pictogram(placed: Placed, rng: random.Random) -> Image.Image:
    """RGBA layer of the instance's size, mirrored and blurred by chance."""
    from PIL import Image, ImageDraw, ImageFilter, ImageOps

    width, height = 2 * placed.box[2], 2 * placed.box[3]
    shift = [rng.randint(-22, 22) for _ in range(3)]
    primitives = PICTOGRAMS[placed.category]
    layer = Image.new("RGBA", (width, height), (*_shifted(primitives[0][2], shift), 0))
    pen = ImageDraw.Draw(layer)
    for kind, at, colour in primitives:
        _paint(pen, kind, at, (*_shifted(colour, shift), 255), width, height)
    layer = layer.reduce(2)
    if rng.random() < 0.5:
        layer = ImageOps.mirror(layer)
    if rng.random() < 0.3:
        layer = layer.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 1.6)))
    return layer


def _paint(pen: ImageDraw.ImageDraw, kind: str, at: tuple[float, ...], fill: tuple, width: int, height: int) -> None:
    scaled = [value * (height if i % 2 else width) for i, value in enumerate(at)]
    if kind == "poly":
        pen.polygon(scaled, fill=fill)
        return
    box = [scaled[0], scaled[1], scaled[2] - (kind != "line"), scaled[3] - (kind != "line")]
    if kind != "line":  # what is thinner than a pixel is still one pixel wide
        box = [box[0], box[1], max(box[0], box[2]), max(box[1], box[3])]
    stroke = max(2, round(at[4] * min(width, height))) if kind in ("line", "ring") else 0
    if kind == "rect":
        pen.rectangle(box, fill=fill)
    elif kind == "oval":
        pen.ellipse(box, fill=fill)
    elif kind == "pie":
        pen.pieslice(box, at[4], at[5], fill=fill)
    elif kind == "ring":
        pen.ellipse(box, outline=fill, width=stroke)
    else:
        pen.line(box, fill=fill, width=stroke)


def _shifted(colour: str, shift: list[int]) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, int(colour[i : i + 2], 16) + shift[i // 2])) for i in (0, 2, 4))
    return red, green, blue


def _jitter(colour: str, rng: random.Random, most: int) -> tuple[int, int, int]:
    return _shifted(colour, [rng.randint(-most, most) for _ in range(3)])
