"""Bad pictures, annotation files, names and answers: exit code 2 and one paragraph that names the culprit and the remedy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.cli import main
from tests import tiny_vlm

N = 4  # scenes


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`scenes/` with COCO files, `chair.jsonl`, `pope.jsonl`, and tiny models."""
    root = tmp_path_factory.mktemp("base")
    for task in ("chair", "pope"):
        assert (
            main(
                ["data", f"task={task}", f"task.{task}.scenes={N}", f"out={root}/{task}.jsonl", f"folder={root}/scenes"]
            )
            == 0
        )
    for family in ("llava", "qwen2_vl"):
        tiny_vlm.save(family, root / family)
    return root


def heed(command: str, capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """What a command prints, in one line; no traceback, and the exit code that was expected."""
    capsys.readouterr()
    got = main(shlex.split(command))
    text = " ".join("".join(capsys.readouterr()).split())
    assert got == code, text
    assert "Traceback" not in text
    return text


def run(base: Path, where: Path, text: str, model: str = "llava") -> str:
    """A command on tiny settings; records in `where`."""
    small = "efficiency=off tracking=disabled" + (" task.chair.max_new_tokens=2" if "task=chair" in text else "")
    return f"run model={base}/{model} {small} results={where}/res {text}"


def files(base: Path, task: str, **changes: Any) -> str:
    """Overrides that read the exported scenes, some of them replaced."""
    paths = {"images": base / "scenes" / "images", "instances": base / "scenes" / "instances.json"}
    paths |= {"captions": base / "scenes" / "captions.json"} if task == "chair" else {}
    return " ".join([f"task={task}", *(f"task.{task}.{key}={value}" for key, value in (paths | changes).items())])


# -- pictures --------------------------------------------------------------------------------------------------------


def truncated(path: Path, picture: Image.Image) -> None:
    picture.resize((300, 300)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:1500])


BROKEN: dict[str, tuple[Callable[[Path, Image.Image], Any], str]] = {
    "missing": (lambda path, _: path.unlink(), "does not exist"),
    "truncated": (truncated, "truncated"),
    "text": (lambda path, _: path.write_text("hello"), "no image that pillow can read"),
    "empty": (lambda path, _: path.write_bytes(b""), "no image that pillow can read"),
    "bomb": (lambda path, _: Image.new("1", (20_000, 10_000)).save(path), "more than 178 megapixels"),
}
UNUSUAL: dict[str, Callable[[Path, Image.Image], Any]] = {
    "cmyk": lambda path, picture: picture.convert("CMYK").save(path, "JPEG"),
    "palette": lambda path, picture: picture.convert("P").save(path),
    "1x1": lambda path, _: Image.new("RGB", (1, 1)).save(path),
    "line": lambda path, _: Image.new("L", (1, 300)).save(path),
}


def with_first(base: Path, folder: Path, change: Callable[[Path, Image.Image], Any]) -> Path:
    """A copy of the scenes' pictures whose first one is changed."""
    folder.mkdir()
    for path in (base / "scenes" / "images").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    first = folder / "scene_000000.png"
    with Image.open(base / "scenes" / "images" / first.name) as picture:
        change(first, picture.convert("RGB"))
    return folder


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_picture_is_named_or_skipped_and_counted(base, tmp_path, capsys, kind):
    change, message = BROKEN[kind]
    folder = with_first(base, tmp_path / "pictures", change)
    for task in ("chair", "pope"):
        command = files(base, task, images=folder)
        text = heed(run(base, tmp_path, command), capsys)
        assert "scene_000000.png" in text and message in text and f"task.{task}.bad_images=skip" in text
        assert text.count(message) == 1  # said once
        heed(f"data {command} task.{task}.bad_images=skip out={tmp_path}/{task}.jsonl", capsys, 0)
        rows = [json.loads(line) for line in (tmp_path / f"{task}.jsonl").read_text().splitlines()]
        assert rows and not any("scene_000000.png" in row["images"] for row in rows)


def test_skipped_pictures_stand_in_the_result(base, tmp_path, capsys):
    folder = with_first(base, tmp_path / "pictures", BROKEN["missing"][0])
    text = heed(run(base, tmp_path, files(base, "chair", images=folder, bad_images="skip")), capsys, 0)
    (found,) = (json.loads(p.read_text()) for p in (tmp_path / "res" / "runs").glob("*/metrics.json"))
    assert (found["n"], found["n_skipped"]) == (N - 1, 1) and "skip" in text


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_pictures_are_read(base, tmp_path, capsys, kind):
    folder = with_first(base, tmp_path / "pictures", UNUSUAL[kind])
    heed(run(base, tmp_path, files(base, "chair", images=folder)), capsys, 0)


# -- annotations -----------------------------------------------------------------------------------------------------


ANNOTATIONS: dict[str, tuple[Callable[[dict], Any], str]] = {
    "list": (lambda table: [1, 2], "mine.json holds a list, not an object"),
    "text": (lambda table: "hello", "holds a text (hello), not an object"),
    "keys": (lambda table: {"a": []}, "the key 'categories' is missing"),
    "entries": (lambda table: table | {"images": [1]}, "images 1 holds a number (1), not an object"),
    "none": (lambda table: table | {"images": [], "annotations": []}, "lists no images"),
    "names": (
        lambda table: table | {"images": [{"id": i["id"]} for i in table["images"]]},
        "images 1: the key 'file_name' is missing",
    ),
    "category": (
        lambda table: table | {"annotations": [a | {"category_id": 999} for a in table["annotations"]]},
        "of image 0 has category 999, which is not listed",
    ),
}


@pytest.mark.parametrize("kind", ANNOTATIONS)
@pytest.mark.parametrize("task", ["chair", "pope"])
def test_an_annotation_file_that_is_none_is_named_with_the_layout(base, tmp_path, capsys, task, kind):
    change, message = ANNOTATIONS[kind]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(change(json.loads((base / "scenes" / "instances.json").read_text()))))
    text = heed(run(base, tmp_path, files(base, task, instances=path)), capsys)
    assert "mine.json" in text and message in text and "Name an instances file in COCO's format" in text


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is not JSON"), (b"not json", "is not JSON"), (b"\xff\xfe", "is not UTF-8 text")]
)
def test_an_annotation_file_that_is_no_json_is_named(base, tmp_path, capsys, content, message):
    (tmp_path / "mine.json").write_bytes(content)
    text = heed(run(base, tmp_path, files(base, "chair", instances=tmp_path / "mine.json")), capsys)
    assert f"mine.json {message}" in text


def test_an_image_without_ground_truth_and_an_unknown_category_are_named(base, tmp_path, capsys):
    for name in ("instances", "captions"):
        table = json.loads((base / "scenes" / f"{name}.json").read_text())
        table["annotations"] = [a for a in table["annotations"] if a["image_id"] != 2]
        (tmp_path / f"{name}.json").write_text(json.dumps(table))
    lacking = files(base, "chair", instances=tmp_path / "instances.json", captions=tmp_path / "captions.json")
    assert "the image 2 has no ground truth" in heed(run(base, tmp_path, lacking), capsys)
    table = json.loads((base / "scenes" / "instances.json").read_text())
    table["categories"] = [c | {"name": f"{c['name']}x"} for c in table["categories"]]
    (tmp_path / "other.json").write_text(json.dumps(table))
    text = heed(run(base, tmp_path, files(base, "chair", instances=tmp_path / "other.json")), capsys)
    assert "is not in the vocabulary (did you mean" in text and "unknown_categories=ignore" in text and len(text) < 1200


# -- names and numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("task.chair.scenes=0", "chair.scenes is 0"),
        ("task.chair.n_images=99", "the data has 4 images: task.chair.n_images=null"),
        ("task.chair.prompt=descripe", "did you mean 'describe'"),
        ("task.chair.normaliser=lema", "did you mean 'lemma'"),
        ("task.chair.source=files", "Three ways to get data"),
        ("task.chair.source=hub", "no hub data set"),
        ("task.chair.instances={base} task.chair.captions={base}", "is a folder, name the file in it"),
        ("decoding.search=beem", "did you mean 'beam'"),
        ("decoding.search=beam decoding.num_beams=1", "a beam search keeps at least 2"),
        ("decoding.search=sample decoding.top_p=0", "0 < top_p <= 1"),
    ],
)
def test_chair_and_decoding_options(base, tmp_path, capsys, options, message):
    text = heed(run(base, tmp_path, f"task=chair task.chair.scenes={N} {options.format(base=base)}"), capsys)
    assert message in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("task.pope.scenes=0", "pope.scenes is 0"),
        ("task.pope.k=0", "pope.k is 0"),
        ("task.pope.k=40", "with at least 40 objects, but the annotations hold 0 of them"),
        ("task.pope.n_images=99", "lower task.pope.n_images"),
        ("task.pope.policy=offical", "did you mean 'official'"),
        ("task.pope.suffix=one_wrd", "did you mean 'one_word'"),
        ("task.pope.source=files task.pope.images=.", "source=scenes), or a download"),
        ("task.pope.images=.", "generated scenes would be asked about instead"),
        ("task.pope.instances={base} task.pope.images=.", "is a folder, name the file in it"),
    ],
)
def test_pope_options(base, tmp_path, capsys, options, message):
    text = heed(run(base, tmp_path, f"task=pope task.pope.scenes={N} {options.format(base=base)}"), capsys)
    assert message in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0\n77\n", "lists, is not in the instances file(s)"),
        ("abc", "holds a text (abc), which is no image id: write numbers"),
        ("", "is empty"),
        ("0\n0\n", "holds the image 0 twice"),
    ],
)
def test_a_list_of_ids_that_does_not_fit(base, tmp_path, capsys, content, message):
    (tmp_path / "ids.txt").write_text(content)
    assert message in heed(run(base, tmp_path, files(base, "chair", ids=tmp_path / "ids.txt")), capsys)


# -- models and methods ----------------------------------------------------------------------------------------------


def test_a_method_that_cannot_serve_is_refused_once_and_the_others_go_on(base, tmp_path, capsys):
    command = f"task=chair task.chair.scenes={N} method=[dense,paint,vdd]"
    text = heed(run(base, tmp_path, command, "qwen2_vl"), capsys, 0)
    assert text.count("lays its pictures out in another way") == 1 and "paint refused" in text
    assert "vdd / chair: done" in text
    text = heed(
        run(base, tmp_path, f"task=chair task.chair.scenes={N} method=[dense,opera] decoding.search=beam"), capsys
    )
    assert "Method 'opera' cannot work with decoding.search=beam" in text
    text = heed(run(base, tmp_path, "task=passkey method=[dense,vcd] limit=1"), capsys)
    assert "works on pictures, and this task shows none" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "has no image processor"), ("hello", "is not JSON"),
     ('{"image_processor": {"image_processor_type": "Nope"}}', "cannot be read")],
)  # fmt: skip
def test_a_model_without_a_processor_config(base, tmp_path, capsys, content, message):
    folder = tiny_vlm.save("llava", tmp_path / "mine")
    (folder / "processor_config.json").unlink()
    if content is not None:
        (folder / "processor_config.json").write_text(content)
    text = heed(run(tmp_path, tmp_path, f"task=chair task.chair.scenes={N}", "mine"), capsys)
    assert message in text and "cop" in text.lower() and len(text) < 1500


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "rows", "message"),
    [
        ("pope", [{"foo": 1}], "the key 'text' is missing"),
        ("pope", [{"id": "zzz", "text": "yes"}], "no example has the id 'zzz'"),
        ("pope", {"a": "b"}, "the key 'text' is missing"),
        ("pope", ["yes", "no"], "entry 1 holds a text (yes), not an object"),
        (
            "chair",
            {"overall": {}, "imgToEval": {}},
            "the key 'image_id' is missing, so it is no output of this task: write",
        ),
        ("chair", [{"image_id": "x.jpg", "caption": "A dog."}], "no example has the id 'x.jpg'"),
    ],
)
def test_answers_in_a_wrong_layout(base, tmp_path, capsys, task, rows, message):
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    command = f"score task={task} examples={base}/{task}.jsonl outputs={tmp_path}/mine.json out={tmp_path}/o.json"
    assert message in heed(command, capsys)


def test_examples_of_another_task_and_a_folder_that_is_a_file(base, tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"id": "0", "text": "yes"}\n')
    command = f"score task=pope examples={base}/chair.jsonl outputs={tmp_path}/a.jsonl out={tmp_path}/o.json"
    assert "belongs to the task chair" in heed(command, capsys)
    text = heed(f"data task=chair out={tmp_path}/x.jsonl folder={base}/chair.jsonl", capsys)
    assert "is a file. Name a folder" in text and not (tmp_path / "x.jsonl").exists()


def test_answers_that_are_not_there_are_wrong_and_the_numbers_have_intervals(base, tmp_path, capsys):
    rows = [json.loads(line) for line in (base / "pope.jsonl").read_text().splitlines()][:3]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": r["id"], "text": "yes"}) + "\n" for r in rows))
    command = f"score task=pope examples={base}/pope.jsonl outputs={tmp_path}/a.jsonl out={tmp_path}/o.json"
    text = heed(command, capsys, 0)
    assert "have no output and count as wrong" in text and "accuracy 0." in text and "[" in text
    assert json.loads((tmp_path / "o.json").read_text())["metrics"]["accuracy"] < 0.3
