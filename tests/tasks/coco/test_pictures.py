"""Images of every mode become RGB; broken, missing and monstrous ones are named."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.errors import UserError
from tasks.coco import content_digest, open_image
from tasks.coco.pictures import inside

RED = (200, 10, 20)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "png"), ("RGBA", "png"), ("P", "png"), ("L", "png"), ("1", "png"), ("CMYK", "jpeg"), ("LA", "png"),
     ("I;16", "png"), ("I", "tiff"), ("F", "tiff")],
)  # fmt: skip
def test_every_mode_becomes_rgb(tmp_path, mode, kind):
    path = tmp_path / f"x.{kind}"
    image = Image.new("RGB", (3, 2), RED)
    (Image.new(mode, (3, 2)) if mode in ("I;16", "I", "F") else image.convert(mode)).save(path)
    got = open_image(path)
    assert (got.mode, got.size) == ("RGB", (3, 2))


def test_colours_survive(tmp_path):
    Image.new("RGBA", (1, 1), (*RED, 128)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").getpixel((0, 0)) == RED
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, *RED])
    palette.putdata([0, 1])
    palette.save(tmp_path / "p.png", transparency=b"\x00\xff")
    assert open_image(tmp_path / "p.png").getpixel((1, 0)) == RED


def test_16_bit_grey_keeps_its_upper_bits(tmp_path):
    grey = np.array([[0, 255, 256, 0x8000, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "g.png")
    assert np.asarray(open_image(tmp_path / "g.png"))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is no image"),
        (b"hello", "is no image"),
        ("truncated", "cannot be read"),
        (huge_png(14000, 13000), "more than 178 megapixels"),
    ],
)
def test_what_cannot_be_opened_is_named(tmp_path, content, message):
    path = tmp_path / "bad.png"
    if content == "truncated":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
        content = path.read_bytes()[:3000]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        open_image(path)
    assert "bad.png" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        open_image(tmp_path)


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../x", "", " ", "a\\b", "a\0b"])
def test_names_that_lead_out_of_the_folder_are_refused(name):
    with pytest.raises(UserError, match="not a name inside the folder"):
        inside(Path("images"), name)
    assert inside(Path("images"), "train/x.jpg") == Path("images/train/x.jpg")


def test_the_digest_follows_content_names_and_absence_but_no_order(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    first = content_digest(tmp_path, ["a", "b"])
    assert first == content_digest(tmp_path, ["b", "a", "b"]) != content_digest(tmp_path, ["a"])
    (tmp_path / "z").write_bytes(b"1")
    assert content_digest(tmp_path, ["z"]) != content_digest(tmp_path, ["a"])
    assert content_digest(tmp_path, ["a", "c"]) not in (first, content_digest(tmp_path, ["a"]))
    (tmp_path / "b").write_bytes(b"23")
    assert content_digest(tmp_path, ["a", "b"]) != first


def test_importing_the_tasks_is_light():
    code = "import sys, tasks.coco, tasks.pope; print([m for m in ('torch', 'numpy', 'PIL', 'pycocotools') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
