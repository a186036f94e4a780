"""Scenes and the files that they are written to are the same data."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import ImageChops

from harness.errors import UserError
from tasks.coco import SCENE_SEED, Source


def task(**fields):
    base = {"source": "scenes", "scenes": 5, "seed": 2, "instances": None, "images": None}
    return SimpleNamespace(**base | fields)


def test_what_scenes_export_reads_back_as_files(tmp_path):
    generated = Source.of(task())
    written = generated.export(tmp_path)
    assert len(written) == 7 and all(path.is_file() for path in written)
    fields = {"instances": str(tmp_path / "instances.json"), "images": str(tmp_path / "images")}
    read = Source.of(task(source="files", **fields), captions=[str(tmp_path / "captions.json")])
    assert read.annotations() == generated.annotations() and read.references() == generated.references()
    assert read.files() == (tmp_path / "instances.json", tmp_path / "captions.json") and generated.files() == ()
    for name in generated.annotations().images.values():
        assert ImageChops.difference(read.image(name), generated.image(name)).getbbox() is None
    assert read.export(tmp_path / "none") == []


def test_scenes_are_not_those_that_models_are_trained_on():
    assert SCENE_SEED == 500_000
    assert Source.of(task(seed=0)).annotations() != Source.of(task(seed=1)).annotations()
    assert Source.of(task(seed=0)).provenance() != Source.of(task(seed=1)).provenance()


def test_provenance_of_files_is_their_content_and_nothing_of_the_machine(tmp_path):
    Source.of(task()).export(tmp_path / "a")
    Source.of(task()).export(tmp_path / "elsewhere")
    names = ["scene_000000.png", "scene_000001.png"]
    a, b = (Source.of(task(source="files", images=str(tmp_path / x / "images"))) for x in ("a", "elsewhere"))
    assert a.provenance(names) == b.provenance(names) != a.provenance(names[:1])
    assert str(tmp_path) not in str(a.provenance(names))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "scene"}, "did you mean 'scenes'"),
        ({"scenes": 0}, "render at least 1"),
        ({"source": "files", "instances": "nowhere.json"}, r"the file nowhere.json does not exist\. The ways\."),
        ({"source": "files"}, r"no folder of images is given\. The ways\."),
        ({"source": "files", "images": "nowhere"}, r"nowhere is no folder\. The ways\."),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_with_the_ways_out(fields, message):
    with pytest.raises(UserError, match=message):
        Source.of(task(**fields)).check("pope", "The ways.")


def test_a_name_that_is_no_scene_is_refused():
    with pytest.raises(UserError, match="not the file name of a scene"):
        Source.of(task()).image("dog.png")
    with pytest.raises(UserError, match="no folder of images"):
        Source.of(task(source="files")).image("dog.png")
