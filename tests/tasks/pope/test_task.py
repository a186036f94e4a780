"""Examples, sources, official files, export, figures, and refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from harness.config.build import group
from harness.config.compose import compose
from harness.contracts.example import Example, Skipped
from harness.contracts.question import Dialogue
from harness.errors import UserError
from harness.exchange.data import write_examples
from harness.exchange.score import rescore
from harness.plan.identities import task_identity
from tasks.pope import Pope
from tests.toy import ByteTokens
from zoo.material import scenes

SMALL = Pope(scenes=8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    SMALL.export(folder)
    return folder


def of_files(folder: Path, **more) -> Pope:
    return Pope(source="files", images=str(folder / "images"), **more)


def official(folder: Path) -> dict[str, str]:
    return {split: str(folder / f"pope_{split}.jsonl") for split in ("random", "popular", "adversarial")}


# -- examples --------------------------------------------------------------------------------------------------------


def test_equal_questions_are_asked_once_and_know_their_splits():
    examples = list(SMALL.examples(ByteTokens()))
    assert (
        len({(e.cluster, e.question.prompt) for e in examples})
        == len(examples)
        == len({e.id for e in examples})
        == SMALL.size()[0]
    )
    assert sum(len(e.meta["splits"]) for e in examples) == len(SMALL.all_questions()) == 8 * 6 * 3
    positive = [e for e in examples if e.references == ("yes",)]
    assert len(positive) == 24 and all(e.meta["splits"] == ["random", "popular", "adversarial"] for e in positive)
    first = examples[0]
    assert first.question.images == (first.cluster,) == ("scene_000000.png",) and first.question.max_new_tokens == 16
    assert first.question.prompt == first.meta["question"] + "\nAnswer the question using a single word or phrase."


def test_questions_that_differ_in_label_or_wording_are_apart(exported, tmp_path):
    row = {"image": "scene_000000.png", "text": "Is there an oven in the image?", "label": "yes"}
    for name, more in (
        ("random", {}),
        ("popular", {"label": "no"}),
        ("adversarial", {"text": "Is there an oven in the imange?"}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(row | more))
    task = of_files(
        exported, questions=[str(tmp_path / f"{name}.json") for name in ("random", "popular", "adversarial")]
    )
    examples = list(task.examples(ByteTokens()))
    assert [(e.split, e.references[0]) for e in examples] == [
        ("random", "yes"),
        ("popular", "no"),
        ("adversarial", "yes"),
    ]
    assert [e.id for e in examples][:2] == ["scene_000000-oven", "scene_000000-oven-2"] and len(
        {e.id for e in examples}
    ) == 3


def test_any_beginning_covers_all_splits():
    first = [e.meta["splits"] for e in list(SMALL.examples(ByteTokens()))[:12]]
    assert {s for splits in first for s in splits} == {"random", "popular", "adversarial"}


def test_a_conversation_asks_the_questions_of_one_image_and_split():
    task = Pope(scenes=8, chat=True, suffix="none")
    examples = list(task.examples(ByteTokens()))
    assert task.size() == (24, 24 * 6 * 16) and len(examples) == 24 and len({e.id for e in examples}) == 24
    one = examples[1]
    assert (one.split, one.meta["splits"], len(one.question.turns), len(one.references)) == (
        "popular",
        ["popular"],
        5,
        6,
    )
    assert [one.question.prompt, *one.question.turns] == one.meta["questions"] and one.references == ("yes", "no") * 3
    assert Example.from_row(json.loads(json.dumps(one.to_row())), Dialogue) == one


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("none", ""),
        ("", ""),
        ("one_word", " Please answer this question with one word."),
        ("\nYes or no?", "\nYes or no?"),
    ],
)
def test_suffixes_have_names_or_are_literal(suffix, text):
    task = Pope(scenes=4, suffix=suffix)
    task.validate()
    assert next(iter(task.examples(ByteTokens()))).question.prompt.endswith(f"in the image?{text}")


def test_images_are_drawn_on_demand():
    assert SMALL.image("scene_000003.png").tobytes() == scenes.draw.image(scenes.scene(500_000, 3)).tobytes()


# -- sources ---------------------------------------------------------------------------------------------------------


def test_scenes_their_export_and_its_question_files_are_the_same_task(exported):
    built = of_files(exported, instances=str(exported / "instances.json"))
    loaded = of_files(exported, questions=official(exported))
    listed = of_files(exported, questions=list(official(exported).values()))
    for task in (built, loaded, listed):
        task.validate()
        assert task.all_questions() == SMALL.all_questions()
        assert list(task.examples(ByteTokens())) == list(SMALL.examples(ByteTokens()))
        assert task.image("scene_000001.png").tobytes() == SMALL.image("scene_000001.png").tobytes()


def test_export_names_what_it_wrote(tmp_path):
    written = SMALL.export(tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in written}
    assert {
        "instances.json",
        "captions.json",
        "pope_random.jsonl",
        "pope_co_occur.json",
        "images/scene_000007.png",
    } <= names
    assert all(path.is_file() for path in written) and len(names) == len(written)
    rows = [json.loads(line) for line in (tmp_path / "pope_popular.jsonl").read_text().splitlines()]
    assert [row["question_id"] for row in rows] == list(range(1, 49)) and set(rows[0]) == {
        "question_id",
        "image",
        "text",
        "label",
    }
    counted = json.loads((tmp_path / "pope_ground_truth_objects.json").read_text())
    assert sum(counted.values()) == sum(len(scenes.scene(500_000, i).categories) for i in range(8))


def test_missing_and_broken_images_are_errors_that_name_row_and_file_or_are_counted(exported, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(8):
        (folder / scenes.file_name(i)).write_bytes((exported / "images" / scenes.file_name(i)).read_bytes())
    (folder / scenes.file_name(2)).unlink()
    (folder / scenes.file_name(5)).write_bytes(b"torn")
    fields = {"source": "files", "images": str(folder), "questions": official(exported)}
    with pytest.raises(UserError, match=r"pope_random\.jsonl, line 13: The image .*scene_000002\.png does not exist"):
        list(Pope(**fields).examples(ByteTokens()))
    items = list(Pope(**fields, bad_images="skip").examples(ByteTokens()))
    skipped = [item for item in items if isinstance(item, Skipped)]
    assert {s.meta["image"] for s in skipped} == {"scene_000002.png", "scene_000005.png"}
    assert {s.reason for s in skipped} == {
        "The image scene_000002.png does not exist.", "The image scene_000005.png is no image that pillow can read.",
    }  # fmt: skip
    whole = list(SMALL.examples(ByteTokens()))
    assert [item for item in items if isinstance(item, Example)] == [
        e for e in whole if e.cluster[:-4] not in ("scene_000002", "scene_000005")
    ]
    assert str(tmp_path) not in str([item.to_row() if isinstance(item, Example) else item for item in items])


def test_the_identity_follows_the_pixels_and_the_questions(exported, tmp_path):
    task = of_files(exported, questions=official(exported))
    before = task.provenance()
    path = exported / "images" / "scene_000004.png"
    kept = path.read_bytes()
    Image.new("RGB", (4, 4)).save(path)
    try:
        assert task.provenance()["images"] != before["images"]
        assert task.provenance()["questions"] == before["questions"] == SMALL.provenance()["questions"]
    finally:
        path.write_bytes(kept)
    assert task.provenance() == before
    assert set(SMALL.provenance()) == {"questions", "scenes", "pillow"}
    assert SMALL.provenance()["questions"] != Pope(scenes=8, seed=1).provenance()["questions"]
    assert len(task_identity(task)["data"]) == 3


def test_source_follows_the_files_that_are_named(exported):
    assert Pope().source == "scenes" and Pope(questions="x.json").source == "files"
    assert Pope(instances="x.json").source == "files" and Pope(source="hub").source == "hub"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"policy": "offical"}, "did you mean 'official'"),
        ({"suffix": "oneword"}, "did you mean 'one_word'"),
        ({"bad_images": "ignore"}, "error, skip"),
        ({"k": 0}, "pope.k is 0"),
        ({"n_images": 0}, "pope.n_images is 0"),
        ({"max_new_tokens": 0}, "pope.max_new_tokens is 0"),
        ({"source": "coco"}, "Known: files, hub, scenes"),
        ({"source": "files", "images": "."}, r"neither questions nor instances.*questions=.*source=scenes.*source=hub"),
        ({"questions": "a.json", "instances": "b.json", "images": "."}, "does not exist|both"),
        ({"questions": "a.json", "images": "."}, r"the file a\.json does not exist.*source=scenes.*source=hub"),
        ({"questions": {"hard": "a.json"}, "images": "."}, "names the split 'hard'"),
        ({"source": "scenes", "questions": "a.json"}, "reads no files"),
        ({"questions": "a.json"}, "no folder of images is given"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Pope(**fields).validate()


@pytest.mark.parametrize(("preset", "n"), [("ci", 40), ("small", 500)])
def test_presets_compose(preset, n):
    task = group(compose(["task=pope", f"preset={preset}"]), "task")["pope"]
    assert isinstance(task, Pope) and task.source == "scenes" and task.scenes == n and task.needs_images


def test_the_paper_preset_asks_for_its_files(exported):
    with pytest.raises(UserError, match="no folder of images is given"):
        group(compose(["task=pope", "preset=paper"]), "task")
    names = ",".join(f"{split}: {path}" for split, path in official(exported).items())
    given = [f"task.pope.questions={{{names}}}", f"task.pope.images={exported / 'images'}"]
    task = group(compose(["task=pope", "preset=paper", *given]), "task")["pope"]
    assert task.all_questions() == SMALL.all_questions() and task.n_images == 500


# -- files in and out ------------------------------------------------------------------------------------------------


def test_data_and_score_agree_with_the_official_columns_beside(tmp_path):
    write_examples(SMALL, ByteTokens(), tmp_path / "d.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert [SMALL.read_row(row, i) for i, row in enumerate(rows)] == list(SMALL.examples(ByteTokens()))
    assert rows[0]["question_id"] == 1 and rows[0]["label"] == "yes" and rows[0]["text"] == rows[0]["meta"]["question"]
    outputs = "".join(json.dumps({"id": row["id"], "text": row["label"].title()}) + "\n" for row in rows)
    (tmp_path / "o.jsonl").write_text(outputs)
    result = rescore(SMALL, tmp_path / "d.jsonl", tmp_path / "o.jsonl", tmp_path / "s.json")
    assert result["scorer"] == "pope/official" and result["metrics"]["f1_adversarial"] == 1.0
    write_examples(Pope(scenes=8, chat=True), ByteTokens(), tmp_path / "c.jsonl")
    assert "question_id" not in json.loads((tmp_path / "c.jsonl").read_text().splitlines()[0])


@pytest.mark.parametrize("layout", ["in order", "numbered answer", "numbered text", "ours"])
def test_official_question_and_answer_files_are_scored(exported, tmp_path, layout):
    questions = [json.loads(line) for line in (exported / "pope_adversarial.jsonl").read_text().splitlines()]
    texts = ["Yes" if i % 4 == 0 else "No" for i in range(len(questions))]
    make = {
        "in order": lambda q, text: {"question": q["text"], "answer": text},
        "numbered answer": lambda q, text: {"question_id": q["question_id"], "answer": text},
        "numbered text": lambda q, text: {"question_id": q["question_id"], "text": text, "finish": "stop"},
        "ours": lambda q, text: {"id": str(q["question_id"]), "text": text},
    }[layout]
    answers = tmp_path / "a.jsonl"
    answers.write_text("".join(json.dumps(make(q, text)) + "\n" for q, text in zip(questions, texts, strict=True)))
    result = rescore(SMALL, exported / "pope_adversarial.jsonl", answers, tmp_path / "s.json")
    assert result["n"] == 48 and result["n_missing"] == 0
    assert result["metrics"]["recall"] == 0.5 and result["metrics"]["precision"] == 1.0
    assert result["metrics"]["accuracy"] == 0.75 and result["metrics"]["yes_ratio"] == 0.25


def test_figures_are_a_picture_and_a_table(tmp_path):
    examples = list(SMALL.examples(ByteTokens()))
    rows = [{"cluster": e.cluster, "method": "power", "metrics": dict(SMALL.score(e, "Yes").metrics)} for e in examples]
    png, table = SMALL.figures(rows, tmp_path / "new")
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with table.open() as file:
        found = {(r["split"], r["metric"]): r for r in csv.DictReader(file)}
    assert (
        float(found["popular", "f1"]["value"]) == pytest.approx(2 / 3) and found["popular", "f1"]["questions"] == "48"
    )
    assert found["mean", "accuracy"]["questions"] == "144" and float(found["random", "yes_ratio"]["value"]) == 1.0
    assert SMALL.figures([], tmp_path) == [] and SMALL.figures([{"metrics": {"accuracy": 1.0}}], tmp_path) == []
