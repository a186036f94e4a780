"""The downloaded table, by a stand-in with its columns. What `datasets` itself does is not tested here."""

from __future__ import annotations

import io
import sys
from types import ModuleType

import pytest
from PIL import Image

from harness.errors import UserError
from tasks.pope import Pope, hub


class Table(list):
    """What is used of a `datasets.Dataset`: columns by name, rows by number."""

    @property
    def column_names(self):
        return list(self[0])

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)

    def cast_column(self, name, kind):
        assert (name, kind) == ("image", "bytes")
        return self


def png(colour) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (2, 2), colour).save(out, "png")
    return out.getvalue()


def row(i, image, answer, category, colour=(9, 9, 9)):
    return {
        "id": str(i), "question_id": str(i), "question": f"Is there a {image} in the image?", "answer": answer,
        "image_source": f"COCO_{image}", "image": {"bytes": png(colour), "path": None}, "category": category,
    }  # fmt: skip


ROWS = Table([
    row(1, "dog", "yes", "random"), row(2, "cat", "no", "random", (1, 2, 3)), row(1, "dog", "yes", "popular", (5, 5, 5)),
])  # fmt: skip


@pytest.fixture
def library(monkeypatch):
    """A `datasets` that has the table; loading is not cached from test to test."""
    fake = ModuleType("datasets")
    fake.load_dataset = lambda name, split: ROWS
    fake.Image = lambda decode: "bytes"
    monkeypatch.setitem(sys.modules, "datasets", fake)
    monkeypatch.setattr(hub, "installed", lambda: True)
    hub.load.cache_clear()
    yield fake
    hub.load.cache_clear()


def test_rows_become_questions_and_images(library):
    task = Pope(source="hub")
    task.validate()
    assert [(q.image, q.split, q.label, q.number) for q in task.all_questions()] == [
        ("COCO_dog.jpg", "random", "yes", 1), ("COCO_cat.jpg", "random", "no", 2), ("COCO_dog.jpg", "popular", "yes", 1),
    ]  # fmt: skip
    assert task.size()[0] == 2 and [e.meta["splits"] for e in task.examples(None)] == [
        ["random", "popular"],
        ["random"],
    ]
    assert task.image("COCO_cat.jpg").getpixel((0, 0)) == (1, 2, 3)
    assert task.image("COCO_dog.jpg").getpixel((0, 0)) == (9, 9, 9)  # of its first row
    assert set(task.provenance()) == {"questions", "images"} and task.data_files() == ()
    with pytest.raises(UserError, match=r"hold no image 'x\.jpg'"):
        task.image("x.jpg")


def test_a_failed_download_is_one_sentence(library):
    def fail(name, split):
        raise ConnectionError("no route")

    library.load_dataset = fail
    with pytest.raises(UserError, match=r"lmms-lab/POPE cannot be loaded \(ConnectionError: no route\)"):
        Pope(source="hub").size()


def test_another_table_is_refused():
    with pytest.raises(UserError, match="lacks the columns category, image_source, question_id"):
        hub.from_table(Table([{"question": "", "answer": "", "image": None}]), "x")


def test_without_the_package_the_ways_out_are_named(monkeypatch):
    monkeypatch.setattr(hub, "installed", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'heed\[hub\]'.*source=files.*source=scenes"):
        Pope(source="hub").validate()
