"""Where the examples come from: scenes or files, which images, their ground truth, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from harness.contracts.example import Example, Skipped
from harness.errors import UserError
from harness.plan.identities import task_identity
from tasks.chair import Chair
from tasks.chair.choice import choose, read_ids
from tests.tasks.chair.material import IMAGES, write_coco
from tests.toy import WordTokens

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return write_coco(tmp_path)


def built(task: Chair) -> list[Example]:
    task.validate()
    found = [item for item in task.examples(WordTokens()) if isinstance(item, Example)]
    assert len(found) == task.size()[0]
    return found


def configured(preset: str, **changes: Any) -> Chair:
    options = OmegaConf.merge(OmegaConf.load(CONFIGS / "task" / "chair.yaml"), {"chair": changes})
    parts = {"seed": 3, "preset": OmegaConf.load(CONFIGS / "preset" / f"{preset}.yaml"), "task": options}
    return instantiate(OmegaConf.create(parts).task.chair)


# -- presets and prompts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "count", "new"), [("ci", 48, 96), ("small", 500, 128)])
def test_presets_without_files_render_scenes(preset: str, count: int, new: int) -> None:
    task = configured(preset)
    task.validate()
    assert (task.source, task.size(), task.seed) == ("scenes", (count, count * new), 3)
    assert hash(task) == hash(configured(preset))


def test_the_paper_preset_is_500_images_and_512_tokens_and_names_the_ways_to_get_them(files: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"instances is not given.*Three ways.*source=scenes.*no hub data set"):
        configured("paper").validate()
    task = configured("paper", **files)
    assert (task.source, task.n_images, task.max_new_tokens) == ("files", 500, 512)
    with pytest.raises(UserError, match=r"n_images is 500, but the data has 4 images.*n_images=null"):
        built(task)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("describe", "Please describe this image in detail."),
        ("help", "Please help me describe the image in detail."),
        ("What is here?", "What is here?"),
    ],
)
def test_prompts_have_names_or_stand_for_themselves(prompt: str, text: str) -> None:
    assert built(Chair(scenes=1, prompt=prompt))[0].question.prompt == text


def test_an_example_names_its_image_and_holds_its_truth(files: dict[str, str]) -> None:
    found = {e.id: e for e in built(Chair(**files, max_new_tokens=64))}
    one = found["310"]
    assert (one.cluster, one.question.images, one.question.max_new_tokens, one.task) == (
        "310",
        ("000310.jpg",),
        64,
        "chair",
    )
    assert one.meta == {"image_id": 310, "gt": ["dog", "person"]}  # annotated, and told in a reference
    assert {k: e.meta["gt"] for k, e in found.items()} == {
        "7": ["bus"], "42": ["cat", "couch"], "99": [], "310": ["dog", "person"],
    }  # fmt: skip
    assert Chair().read_row(one.to_row(), 0) == one


# -- which images ----------------------------------------------------------------------------------------------------


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_the_file() -> None:
    ids = list(range(100, 200))
    chosen = choose(ids, 10, seed=1)
    assert chosen == choose(ids[::-1], 10, seed=1) != choose(ids, 10, seed=2)
    assert choose(ids, None, 1) == ids


def test_asking_for_more_images_keeps_the_first_ones() -> None:
    assert [choose(range(1000), n, 0)[:20] for n in (20, 300, 1000)] == [choose(range(1000), 20, 0)] * 3


def test_scenes_of_another_seed_are_other_images() -> None:
    first, again, other = (built(Chair(scenes=3, seed=seed)) for seed in (0, 0, 1))
    assert first == again and [e.meta for e in first] != [e.meta for e in other]
    assert (
        Chair(scenes=3).image("scene_000001.png").tobytes()
        != Chair(scenes=3, seed=1).image("scene_000001.png").tobytes()
    )


@pytest.mark.parametrize(
    "text", ["42\n7\n", "[42, 7]", '["42", "7"]', "COCO_val2014_000000000042.jpg\nCOCO_val2014_000000000007.jpg"]
)
def test_a_list_of_ids_is_captioned_in_its_order(tmp_path: Path, files: dict[str, str], text: str) -> None:
    (tmp_path / "ids").write_text(text)
    assert [e.id for e in built(Chair(**files, ids=str(tmp_path / "ids"), n_images=1))] == ["42", "7"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("4 4", "the image 4 twice"),
        ("x", "no image id"),
        ("[true]", "no image id"),
        ("[1", "is not JSON"),
        ("[1e999]", "no image id"),
        ("9" * 5000, "no image id"),
        ("[" * 100_000, "nests deeper"),
    ],
)
def test_a_list_of_ids_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ids").write_text(text)
    with pytest.raises(UserError, match=message):
        read_ids(tmp_path / "ids")


def test_an_id_that_the_data_lacks_is_named(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "ids").write_text("42 4711")
    with pytest.raises(UserError, match=r"image 4711, which .*ids\S* lists, is not in the instances"):
        list(Chair(**files, ids=str(tmp_path / "ids")).examples(WordTokens()))


# -- ground truth ----------------------------------------------------------------------------------------------------


def test_an_image_without_ground_truth_is_an_error_or_allowed(tmp_path: Path) -> None:
    files = write_coco(tmp_path, {**IMAGES, 5: ((), ())})
    with pytest.raises(UserError, match=r"the image 5 has no ground truth.*allow_missing=true"):
        built(Chair(**files))
    assert next(e for e in built(Chair(**files, allow_missing=True)) if e.id == "5").meta["gt"] == []


def test_a_category_outside_the_vocabulary_is_an_error_or_ignored(tmp_path: Path) -> None:
    files = write_coco(tmp_path, {1: (("dog", "wall"), ())})
    with pytest.raises(UserError, match=r"category 'wall'.*unknown_categories=ignore"):
        built(Chair(**files))
    assert built(Chair(**files, unknown_categories="ignore"))[0].meta["gt"] == ["dog"]


def test_the_normaliser_reads_the_references_too(tmp_path: Path) -> None:
    files = write_coco(tmp_path, {1: (("dog",), ("Two men by a bus.",))})
    truths = {name: built(Chair(**files, normaliser=name))[0].meta["gt"] for name in ("builtin", "singular")}
    assert truths == {"builtin": ["bus", "dog"], "singular": ["dog", "person"]}


def test_train_and_val_are_united_and_found_in_their_folder(tmp_path: Path) -> None:
    for split, part in (("val2014", {1: (("dog",), ())}), ("train2014", {2: (("cat",), ())})):
        write_coco(tmp_path / split, part)
        for kind in ("instances", "captions"):
            (tmp_path / f"{kind}_{split}.json").write_text((tmp_path / split / f"{kind}.json").read_text())
    # both parts call their own category 1: their ids are made to agree, as COCO's do
    table = json.loads((tmp_path / "instances_train2014.json").read_text())
    table["categories"][0]["id"] = table["annotations"][0]["category_id"] = 2
    (tmp_path / "instances_train2014.json").write_text(json.dumps(table))
    task = Chair(instances=str(tmp_path), captions=str(tmp_path), images=str(tmp_path))
    assert [Path(p).name for p in task.instances or ()] == ["instances_train2014.json", "instances_val2014.json"]
    assert {e.id: e.meta["gt"] for e in task.examples_of(["1", "2"])} == {"1": ["dog"], "2": ["cat"]}


# -- images ----------------------------------------------------------------------------------------------------------


def test_a_broken_image_is_an_error_or_skipped_and_counted(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "images" / "000042.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"000042.jpg.*bad_images=skip"):
        list(Chair(**files).examples(WordTokens()))
    items = list(Chair(**files, bad_images="skip").examples(WordTokens()))
    assert [item.id for item in items if isinstance(item, Skipped)] == ["42"] and len(items) == 4


def test_images_are_rgb_from_both_sources(files: dict[str, str]) -> None:
    assert Chair(**files).image("000042.jpg").mode == Chair(scenes=2).image("scene_000001.png").mode == "RGB"


def test_scenes_exported_as_files_are_the_same_task(tmp_path: Path) -> None:
    scenes = Chair(scenes=4, n_images=4)
    written = scenes.export(tmp_path)
    assert len(written) == 6 and all(path.is_file() for path in written)
    files = Chair(
        instances=str(tmp_path / "instances.json"), captions=str(tmp_path / "captions.json"),
        images=str(tmp_path / "images"), n_images=4,
    )  # fmt: skip
    assert built(files) == built(scenes)
    name = built(files)[0].question.images[0]
    assert files.image(name).tobytes() == scenes.image(name).tobytes()
    with pytest.raises(UserError, match="no source data"):
        files.export(tmp_path)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normaliser": "lema"}, "did you mean 'lemma'"),
        ({"source": "hub"}, "source is 'hub'.*no hub data set"),
        ({"source": "scenes", "instances": "x.json"}, "files are named too"),
        ({"source": "files", "instances": "x.json"}, "captions is not given"),
        ({"instances": "x.json", "captions": "y.json"}, "x.json does not exist"),
        ({"scenes": 0}, "scenes is 0"),
        ({"n_images": 0}, "n_images is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"prompt": " "}, "prompt is empty"),
        ({"count_men": True, "normaliser": "singular"}, "always counts"),
        ({"unknown_categories": "drop"}, "Known: error, ignore"),
        ({"bad_images": "drop"}, "Known: error, skip"),
        ({"synonyms": "/no/such/list"}, "synonyms /no/such/list is not a file"),
        ({"ids": "/no/such/list"}, "ids /no/such/list is not a file"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Chair(**options).validate()


def test_a_model_needs_a_folder_of_images_but_scoring_does_not(files: dict[str, str]) -> None:
    task = Chair(instances=files["instances"], captions=files["captions"])
    task.validate()
    with pytest.raises(UserError, match="no folder of images"):
        task.provenance()
    with pytest.raises(UserError, match="no folder of images"):
        list(task.examples(WordTokens()))
    assert [e.id for e in task.examples_of(["42", "7"])] == ["7", "42"]


# -- identity --------------------------------------------------------------------------------------------------------


def test_the_scorer_and_the_provenance_name_normaliser_and_vocabulary() -> None:
    task = Chair(scenes=2)
    assert task.scorer == "chair/builtin" and Chair(count_men=True).scorer == "chair/builtin+men"
    assert task.provenance()["normaliser"] == "builtin" and len(task.provenance()["vocabulary"]) == 64
    assert {"scenes", "pillow"} <= set(task.provenance())


def test_results_of_different_normalisers_cannot_share_an_identity(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "own.txt").write_text("dog\nperson\ncat\ncouch\nbus\n")
    tasks = [Chair(**files), Chair(**files, normaliser="singular"), Chair(**files, count_men=True),
             Chair(**files, synonyms=str(tmp_path / "own.txt"))]  # fmt: skip
    assert len({json.dumps(task_identity(task), sort_keys=True) for task in tasks}) == 4
    assert task_identity(tasks[0]) == task_identity(dataclasses.replace(tasks[0]))


def test_other_annotations_and_other_images_have_another_identity_wherever_they_stand(tmp_path: Path) -> None:
    files = write_coco(tmp_path / "a")
    found = [task_identity(Chair(**files))]
    moved = write_coco(tmp_path / "b")
    other = write_coco(tmp_path / "c", {**IMAGES, 7: (("bus",), ("A bed.",))})
    found += [task_identity(Chair(**{**files, "instances": moved["instances"], "captions": moved["captions"]}))]
    found += [task_identity(Chair(**{**files, "captions": other["captions"]}))]
    (tmp_path / "a" / "images" / "000042.jpg").write_bytes(b"other")
    found += [task_identity(Chair(**files))]
    first, same, *others = (json.dumps(one, sort_keys=True) for one in found)
    assert first == same and len({first, *others}) == 3
