"""COCO files: order, union, caching, silence, ids that stand for two things, and files that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.errors import UserError
from tasks.coco import captions_from_dict, from_dict, read_captions, read_instances
from zoo.material import scenes

NAMES = {1: "person", 18: "dog", 62: "chair"}


def instances(images: dict[int, str], objects: list[tuple[int, int]], names: dict[int, str] = NAMES) -> dict:
    return {
        "images": [{"id": i, "file_name": name} for i, name in images.items()],
        "annotations": [{"id": n, "image_id": i, "category_id": c} for n, (i, c) in enumerate(objects, 1)],
        "categories": [{"id": i, "name": name} for i, name in names.items()],
    }


TABLE = instances({7: "b.jpg", 3: "a.jpg", 5: "c.jpg"}, [(3, 62), (7, 18), (3, 1), (3, 62), (7, 1)])


def stored(path: Path, table: object) -> Path:
    path.write_text(json.dumps(table))
    return path


def test_images_are_in_file_order_and_objects_distinct_in_the_order_of_first_annotation(tmp_path, capsys):
    for found in (from_dict(TABLE), read_instances([stored(tmp_path / "i.json", TABLE)])):
        assert list(found.images.items()) == [(7, "b.jpg"), (3, "a.jpg"), (5, "c.jpg")]
        assert found.objects == {7: ("dog", "person"), 3: ("chair", "person"), 5: ()}
        assert found.categories == NAMES
    assert capsys.readouterr().out == ""


def test_several_files_are_united(tmp_path):
    more = instances({9: "d.jpg", 3: "a.jpg"}, [(9, 18), (3, 18)])
    found = read_instances([stored(tmp_path / "1.json", TABLE), stored(tmp_path / "2.json", more)])
    assert list(found.images) == [7, 3, 5, 9] and found.objects[3] == ("chair", "person", "dog")
    other = stored(tmp_path / "3.json", instances({1: "e.jpg"}, [], {1: "human"}))
    with pytest.raises(UserError, match=r"3\.json calls category 1 'human', another instances file calls it 'person'"):
        read_instances([tmp_path / "1.json", other])


def test_captions_are_in_file_order_and_united(tmp_path):
    rows = [(3, "one"), (7, "other"), (3, "two")]
    table = {"images": [{"id": 3}, {"id": 7}, {"id": 8}],
             "annotations": [{"id": n, "image_id": i, "caption": c} for n, (i, c) in enumerate(rows)]}  # fmt: skip
    assert captions_from_dict(table) == {3: ("one", "two"), 7: ("other",), 8: ()}
    path = stored(tmp_path / "c.json", table)
    assert read_captions([path, path])[3] == ("one", "two", "one", "two")


def test_an_edited_file_is_read_again(tmp_path):
    path = stored(tmp_path / "i.json", TABLE)
    assert read_instances([path]) is read_instances([path])
    os.utime(stored(path, instances({1: "x.jpg"}, [])), ns=(1, 1))
    assert list(read_instances([path]).images.values()) == ["x.jpg"]


def test_generated_tables_give_what_the_scenes_hold():
    table, captions = scenes.coco(3, 12)
    found = from_dict(table)
    for i in range(12):
        assert set(found.objects[i]) == set(scenes.scene(3, i).categories)
        assert found.images[i] == scenes.file_name(i)
    assert all(len(texts) == 5 for texts in captions_from_dict(captions).values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "COCO file .* is not JSON"),
        ("[1, 2]", "holds a list, not an object"),
        ('{"images": [], "annotations": {}}', "the key 'categories' is missing"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "'file_name' is missing"),
        ('{"images": [{}], "annotations": [], "categories": []}', "'id' is missing"),
        ('{"images": [3], "annotations": [], "categories": []}', "images 1 holds a number .3., not an object"),
        (
            '{"images": [], "annotations": [{"id": 1, "image_id": 1, "category_id": 4}], "categories": []}',
            "has category 4",
        ),
        (
            '{"images": [{"id": "x", "file_name": "x"}], "annotations": [], "categories": []}',
            "'id' is a text .x., not a whole",
        ),
        ('{"images": [{"id": 1.5, "file_name": "x"}], "annotations": [], "categories": []}', "'id' is a number .1.5."),
        ('{"images": [{"id": true, "file_name": "x"}], "annotations": [], "categories": []}', "'id' is true or false"),
        (
            '{"images": [{"id": 1e999, "file_name": "x"}], "annotations": [], "categories": []}',
            "'id' is a number .inf.",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]}',
            "categories 2: the category 1 is called 'dog' here and 'cat' before",
        ),
        ("\xff", "COCO file .* is not UTF-8"),
    ],
)
def test_a_file_that_is_no_coco_file_is_named(tmp_path, content, message):
    path = tmp_path / "broken.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message) as caught:
        read_instances([path])
    assert "broken.json" in str(caught.value)


def test_a_captions_file_without_captions_is_refused(tmp_path):
    for more, message in (
        ({}, "the key 'caption' is missing"),
        ({"caption": None}, "null"),
        ({"caption": 5}, "a number"),
    ):
        table = {"images": [{"id": 3}], "categories": [], "annotations": [{"id": 1, "image_id": 3} | more]}
        with pytest.raises(UserError, match=rf"c\.json, annotations 1.*{message}"):
            read_captions([stored(tmp_path / "c.json", table)])
    with pytest.raises(UserError, match="does not exist"):
        read_instances([tmp_path / "none.json"])
