"""Generated scenes: the same for everyone, a valid COCO data set, and drawn so that what is annotated can be seen."""

import hashlib
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zoo.material.scenes import Scene, coco, draw, file_name, index_of, provenance, scene, text, write
from zoo.material.scenes.sample import CATEGORIES, CATEGORY_IDS, EVERYWHERE, ROOMS, SHAPES, SIZE

TABLES = "868144291d8996fe"  # first digits of the sha256 of both tables of 20 scenes of seed 1
# Mean brightness of the 4 x 4 cells of scene 0, seed 1.
CELLS = [
    [212.9, 149.8, 169.8, 213.2],
    [182.4, 173.7, 177.8, 178.4],
    [132.1, 135.5, 136.5, 134.9],
    [134.5, 137.0, 136.3, 134.6],
]


def test_the_tables_of_twenty_scenes_never_change() -> None:
    found = hashlib.sha256(json.dumps(coco(1, 20), sort_keys=True).encode()).hexdigest()
    assert found[:16] == TABLES


def test_the_pixels_change_by_a_shade_at_most() -> None:
    """Another pillow may paint an edge one pixel off; colours and places stay."""
    import numpy as np

    image = np.asarray(draw.image(scene(1, 0)), dtype=np.float64)
    cells = image.reshape(4, 28, 4, 28, 3).mean((1, 3, 4)).round(1)
    assert image.shape == (SIZE, SIZE, 3)
    assert np.abs(cells - np.array(CELLS)).max() < 3.0


def test_asking_for_more_scenes_never_changes_the_first_ones() -> None:
    few, many = coco(3, 5), coco(3, 9)
    for table, larger in zip(few, many, strict=True):
        assert larger["images"][:5] == table["images"]
        assert larger["annotations"][: len(table["annotations"])] == table["annotations"]


def test_seeds_and_settings_make_other_scenes() -> None:
    scenes = {scene(seed, i, core) for seed in (1, 2) for i in range(10) for core in (0.55, 0.8)}
    assert len({shown.objects for shown in scenes}) >= 28  # the same room and coins can fall twice
    assert scene(1, 4) == scene(1, 4)
    assert draw.image(scene(1, 4)).tobytes() == draw.image(scene(1, 4)).tobytes()


def test_every_scene_keeps_the_rules() -> None:
    for i in range(200):
        shown = scene(11, i)
        assert 3 <= len(shown.categories) <= 7
        assert list(shown.categories) == text.telling_order(shown.room, set(shown.categories))
        for placed in shown.objects:
            x, y, width, height = placed.box
            assert placed.category_id == CATEGORY_IDS[placed.category]
            assert x >= 0 and y >= 0 and width > 3 and height > 3
            assert x + width <= SIZE and y + height <= SIZE
            assert 0 <= placed.opacity <= 0.12 or 0.5 <= placed.opacity <= 1


def test_rooms_and_what_occurs_everywhere_have_their_shares() -> None:
    scenes = [scene(5, i) for i in range(2000)]
    dining = sum(shown.room == "dining room" for shown in scenes) / len(scenes)
    assert dining == pytest.approx(5 / 21, abs=0.03)
    for name in EVERYWHERE:
        assert 0.33 < sum(name in shown.categories for shown in scenes) / len(scenes) < 0.48
    faint = [placed.opacity < 0.2 for shown in scenes for placed in shown.objects]
    assert sum(faint) / len(faint) == pytest.approx(0.03, abs=0.006)


def test_five_hundred_scenes_are_described_well_under_a_second() -> None:
    start = time.perf_counter()
    coco(1, 500)
    assert time.perf_counter() - start < 2.0  # about 0.15 s on a free core


def test_the_tables_are_consistent() -> None:
    instances, captions = coco(2, 30)
    names = {row["id"]: row["name"] for row in instances["categories"]}
    assert names == {number: name for name, number in CATEGORY_IDS.items()}
    assert {row["image_id"] for row in instances["annotations"]} == set(range(30))
    for row in instances["annotations"]:
        x, y, width, height = row["bbox"]
        assert row["area"] == width * height
        assert row["segmentation"] == [[x, y, x + width, y, x + width, y + height, x, y + height]]
    assert len(captions["annotations"]) == 5 * 30


def test_annotations_stand_in_no_order_of_size() -> None:
    instances, _ = coco(4, 300)
    first = {row["image_id"]: row["area"] for row in reversed(instances["annotations"])}
    largest = {i: max(r["area"] for r in instances["annotations"] if r["image_id"] == i) for i in first}
    assert 0.1 < sum(first[i] == largest[i] for i in first) / len(first) < 0.5


def test_references_mention_four_objects_in_five_and_nothing_else() -> None:
    _, captions = coco(6, 200)
    told = there = 0
    for row in captions["annotations"]:
        present = set(scene(6, row["image_id"]).categories)
        found = {name for name in CATEGORIES if re.search(rf"\b{name}\b", row["caption"])}
        assert found <= present
        told, there = told + len(found), there + len(present)
    assert told / there == pytest.approx(0.8, abs=0.02)


def test_pycocotools_reads_the_tables(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    write(tmp_path, 7, 4)
    table = COCO(tmp_path / "instances.json")
    assert table.getImgIds() == [0, 1, 2, 3]
    for row in table.loadAnns(table.getAnnIds()):
        mask = table.annToMask(row)
        assert mask.shape == (SIZE, SIZE)
        assert mask.sum() == row["area"]
    assert len(COCO(tmp_path / "captions.json").getAnnIds(imgIds=[2])) == 5


def test_images_are_written_without_loss(tmp_path: Path) -> None:
    from PIL import Image

    write(tmp_path, 7, 2)
    for index in range(2):
        with Image.open(tmp_path / "images" / file_name(index)) as image:
            assert image.tobytes() == draw.image(scene(7, index)).tobytes()


def test_file_names_carry_the_index() -> None:
    assert file_name(12) == "scene_000012.png"
    assert index_of("images/scene_000012.png") == 12
    with pytest.raises(ValueError, match=r"other\.png"):
        index_of("other.png")


def test_provenance_tells_other_scenes_apart() -> None:
    assert provenance(1, 2) == provenance(1, 2)
    assert len({provenance(1, 2)["scenes"], provenance(2, 2)["scenes"], provenance(1, 2, core=0.8)["scenes"]}) == 3


def test_the_package_imports_without_pillow_numpy_or_torch() -> None:
    code = "import sys, zoo.material.scenes; print([m for m in ('PIL', 'numpy', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_pictogram_differs_from_its_background() -> None:
    import numpy as np

    from zoo.material.scenes import draw
    from zoo.material.scenes.sample import Placed

    for name in CATEGORIES:
        ratio, (low, _) = SHAPES[name]
        box = (0, 0, round(low * min(1, ratio)), round(low / max(1, ratio)))
        room = next((room for room, (_, members) in ROOMS.items() if name in members), "office")
        alone = Scene(room, (Placed(name, CATEGORY_IDS[name], box, 1.0),), key=1)
        labels = draw.render(alone)[1]
        assert set(np.unique(labels)) == {0, CATEGORIES.index(name) + 1}
        assert (labels > 0).sum() > 0.3 * box[2] * box[3]


def test_an_invisible_object_gets_no_label() -> None:
    from dataclasses import replace

    from zoo.material.scenes import draw

    shown = scene(1, 0)
    hidden = replace(shown, objects=tuple(replace(placed, opacity=0.05) for placed in shown.objects))
    assert draw.render(hidden)[1].max() == 0


def test_long_captions_tell_everything_once_in_telling_order_and_place_it() -> None:
    for i in range(50):
        shown = scene(8, i)
        line = text.caption(shown, random.Random(i))
        at = [re.search(rf"\ban? {name}\b", line) for name in shown.categories]
        assert all(at)
        assert [m.start() for m in at if m] == sorted(m.start() for m in at if m)
        for name, where in re.findall(r"The ([a-z ]+) is (.+?) of the image", line):
            assert text.places(shown)[name] == where


def test_long_captions_are_long() -> None:
    lengths = [len(text.caption(scene(9, i), random.Random(i)).split()) for i in range(200)]
    assert sum(lengths) / len(lengths) > 40


def test_untrue_objects_are_told_like_true_ones() -> None:
    shown = scene(8, 1)
    absent = next(name for name in CATEGORIES if name not in shown.categories)
    assert absent in text.caption(shown, random.Random(0), [absent])


@pytest.mark.parametrize(
    ("name", "asked"), [("cup", "Is there a cup in the image?"), ("umbrella", "Is there an umbrella in the image?")]
)
def test_questions_have_the_right_article(name: str, asked: str) -> None:
    assert text.question(name) == asked
