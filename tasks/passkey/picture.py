"""The passkey heat map as a picture, drawn with Pillow alone: a plotting library takes longer to draw this one than a small
model takes to answer several prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Cividis at equal distances from 0 to 1: readable with every common colour blindness and in grey
CIVIDIS = (
    (0, 34, 78), (18, 53, 112), (59, 73, 108), (87, 93, 109), (112, 113, 115), (138, 134, 120), (165, 156, 116),
    (195, 179, 105), (225, 204, 85), (254, 232, 56),
)  # fmt: skip
CELL = (90, 46)  # pixels
LEFT, TOP, RIGHT, BOTTOM = 92, 66, 128, 112
LINE = 18


@dataclass(frozen=True)
class Labels:
    """What stands around the cells; lines of a text are separated by line feeds."""

    title: str
    columns: Sequence[str]
    rows: Sequence[str]
    x: str
    y: str
    bar: str


def draw(values: Sequence[Sequence[float | None]], labels: Labels, path: Path) -> None:
    """A map of values in [0, 100] as a PNG; cells without a value stay white."""
    from PIL import Image, ImageDraw, ImageFont

    width = LEFT + max(CELL[0] * len(labels.columns), 330) + RIGHT
    height = TOP + max(CELL[1] * len(labels.rows), 160) + BOTTOM
    wide, high = (width - LEFT - RIGHT) / len(labels.columns), (height - TOP - BOTTOM) / len(labels.rows)
    image = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    middle, bottom = LEFT + (width - LEFT - RIGHT) / 2, height - BOTTOM
    pen.multiline_text((middle, TOP / 2), labels.title, "black", font, anchor="mm", align="center")
    for i, (row, label) in enumerate(zip(values, labels.rows, strict=True)):
        y = TOP + high * i
        pen.text((LEFT - 8, y + high / 2), label, "black", font, anchor="rm")
        for j, value in enumerate(row):
            if value is not None:
                x = LEFT + wide * j
                pen.rectangle((x, y, x + wide - 1, y + high - 1), _colour(value))
                ink = "white" if value < 55 else "black"
                pen.text((x + wide / 2, y + high / 2), f"{value:.0f}", ink, font, anchor="mm")
    pen.rectangle((LEFT - 1, TOP - 1, width - RIGHT, bottom), outline="black")
    for j, label in enumerate(labels.columns):
        for k, line in enumerate(label.split("\n")):
            pen.text((LEFT + wide * (j + 0.5), bottom + 8 + LINE * k), line, "black", font, anchor="ma")
    pen.text((middle, height - 8), labels.x, "black", font, anchor="ms")
    _upright(image, labels.y, font, (22, (TOP + bottom) / 2))
    _bar(image, pen, font, (width - RIGHT + 18, TOP, bottom), labels.bar)
    image.save(path, compress_level=1)  # a stronger one halves the speed of the whole picture for a tenth of its size


def _bar(image: Any, pen: Any, font: Any, place: tuple[float, float, float], label: str) -> None:
    """The colours with their values, from 0 at the bottom to 100 at the top."""
    from PIL import Image

    left, top, bottom = place
    colours = Image.new("RGB", (1, len(CIVIDIS)))
    colours.putdata(CIVIDIS[::-1])
    middles = (0, 0.5, 1, len(CIVIDIS) - 0.5)  # pure colours stand in the middle of their pixels
    image.paste(colours.resize((21, int(bottom - top)), Image.Resampling.BILINEAR, middles), (int(left), int(top)))
    for value in range(0, 101, 20):
        at = bottom - (bottom - top) * value / 100
        pen.line((left + 20, at, left + 25, at), "black")
        pen.text((left + 29, at), str(value), "black", font, anchor="lm")
    _upright(image, label, font, (left + 82, (top + bottom) / 2))


def _upright(image: Any, text: str, font: Any, middle: tuple[float, float]) -> None:
    """A text that reads from the bottom to the top."""
    from PIL import Image, ImageDraw

    _, _, width, height = (int(x) for x in font.getbbox(text))
    piece = Image.new("RGB", (width + 2, height + 2), "white")
    ImageDraw.Draw(piece).text((1, 0), text, "black", font)
    turned = piece.rotate(90, expand=True)
    image.paste(turned, (int(middle[0] - turned.width / 2), int(middle[1] - turned.height / 2)))


def _colour(value: float) -> tuple[int, int, int]:
    """Of a value in [0, 100]."""
    place = min(max(value, 0.0), 100.0) / 100 * (len(CIVIDIS) - 1)
    low = min(int(place), len(CIVIDIS) - 2)
    a, b = CIVIDIS[low], CIVIDIS[low + 1]
    red, green, blue = (round(x + (y - x) * (place - low)) for x, y in zip(a, b, strict=True))
    return red, green, blue
