"""`heed score` for captions made anywhere: official layouts, the task's own examples, and coverage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.data import score as verb
from harness.errors import UserError
from harness.exchange.data import write_examples
from harness.exchange.score import rescore
from tasks.chair import Chair
from tests.tasks.chair.material import write_coco
from tests.toy import WordTokens

CAPTIONS = [
    {"image_id": 310, "caption": "A dog and two cats."},
    {"image_id": 42, "caption": "A kitten sleeps on a sofa."},
    {"image_id": 7, "caption": "A bus."},
    {"image_id": 99, "caption": ""},
]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Without a folder of images: none is needed."""
    found = write_coco(tmp_path)
    return {name: found[name] for name in ("instances", "captions")}


def scored(
    task: Chair, rows: list[dict[str, Any]], folder: Path, examples: Path | None = None, kind: str = "jsonl"
) -> Any:
    path = folder / f"made.{kind}"
    path.write_text(json.dumps(rows, indent=1) if kind == "json" else "\n".join(map(json.dumps, rows)))
    return rescore(task, examples, path, folder / f"score-{kind}.json")


def test_captions_are_scored_against_the_tasks_own_examples(tmp_path: Path, files: dict[str, str]) -> None:
    result = scored(Chair(**files), CAPTIONS, tmp_path)
    assert (result["task"], result["scorer"], result["n"], result["n_empty"], result["n_missing"]) == (
        "chair", "chair/builtin", 4, 1, 0,
    )  # fmt: skip
    assert result["metrics"] == pytest.approx({
        "chair_s": 1 / 4, "chair_i": 1 / 5, "recall": 4 / 5, "precision": 4 / 5, "f1": 8 / 10,
        "length": (6 + 7 + 3 + 0) / 4, "coverage": 1.0,
    })  # fmt: skip
    assert set(result["scoring"]) == {"normaliser", "vocabulary"} and len(result["scoring"]["vocabulary"]) == 64
    low, high = result["intervals"]["chair_i"]
    assert low <= 0.2 <= high


def test_a_json_list_and_json_lines_give_the_same_bytes_in_any_order(tmp_path: Path, files: dict[str, str]) -> None:
    scored(Chair(**files), CAPTIONS, tmp_path, kind="json")
    scored(Chair(**files), CAPTIONS[::-1], tmp_path, kind="jsonl")
    assert (tmp_path / "score-json.json").read_bytes() == (tmp_path / "score-jsonl.json").read_bytes()


def test_only_images_with_a_caption_count_and_the_others_lower_the_coverage(
    tmp_path: Path, files: dict[str, str]
) -> None:
    result = scored(Chair(**files, n_images=4), CAPTIONS[:1], tmp_path)
    assert (result["n"], result["n_missing"], result["metrics"]["coverage"]) == (4, 3, 0.25)
    assert (result["metrics"]["chair_i"], result["metrics"]["recall"]) == (1 / 2, 1 / 2)


def test_captions_of_images_that_the_settings_do_not_choose_are_their_own_choice(
    tmp_path: Path, files: dict[str, str]
) -> None:
    (chosen,) = Chair(**files, n_images=1).examples_of([])
    others = [row for row in CAPTIONS if str(row["image_id"]) != chosen.id]
    result = scored(Chair(**files, n_images=1), others, tmp_path)
    assert (result["n"], result["n_missing"], result["metrics"]["coverage"]) == (3, 0, 1.0)
    assert scored(Chair(**files), others[:2], tmp_path)["n"] == 2  # nothing is chosen
    assert scored(Chair(**files, n_images=500), others[:2], tmp_path)["n"] == 4  # more than there are: all


def test_a_list_of_ids_says_which_captions_there_should_be(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "ids").write_text("310 42 7")
    task = Chair(**files, ids=str(tmp_path / "ids"))
    assert scored(task, CAPTIONS[:2], tmp_path)["metrics"]["coverage"] == pytest.approx(2 / 3)
    with pytest.raises(UserError, match="caption of the image 99, which is not in the list"):
        scored(task, CAPTIONS, tmp_path)


def test_the_digest_is_that_of_the_file_that_heed_data_writes(tmp_path: Path) -> None:
    task = Chair(scenes=4)
    summary = write_examples(task, WordTokens(), tmp_path / "data.jsonl")
    rows = [{"id": str(i), "text": "A dog."} for i in range(4)]
    own, given = scored(task, rows, tmp_path), scored(task, rows, tmp_path, tmp_path / "data.jsonl")
    assert own == given and own["data_sha256"] == summary["sha256"]


def test_other_names_of_the_keys_are_options(tmp_path: Path, files: dict[str, str]) -> None:
    rows = [{"question_id": 42.0, "answer": "A kitten."}]
    task = Chair(**files, image_id_key="question_id", caption_key="answer")
    assert scored(task, rows, tmp_path)["metrics"]["recall"] == 0.5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image_id": 42}], "line 1: the key 'caption' is missing"),
        ([{"caption": "A dog."}], "line 1: the key 'image_id' is missing"),
        ([{"image_id": 4711, "caption": "A dog."}], "image 4711 is not in the instances"),
        ([{"image_id": "x.jpg", "caption": "A dog."}], "'x.jpg' is no image id"),
        ([{"image_id": 42, "caption": 5}], "text of the output '42' is int"),
        ([CAPTIONS[0], CAPTIONS[0]], "line 2: the id '310' already stands in line 1"),
    ],
)
def test_wrong_captions_are_refused(
    tmp_path: Path, files: dict[str, str], rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        scored(Chair(**files), rows, tmp_path)
    assert not (tmp_path / "score-jsonl.json").exists()


def test_examples_without_ground_truth_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"id": "42", "prompt": "x"}')
    with pytest.raises(UserError, match=r"line 1: the key .meta.gt"):
        scored(Chair(), [{"id": "42", "text": "A dog."}], tmp_path, tmp_path / "data.jsonl")


def test_the_verb_needs_no_examples_and_says_how_many_captions_are_missing(
    tmp_path: Path, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, CAPTIONS[:3])))
    options = ["task.chair.n_images=4", *(f"task.chair.{name}={path}" for name, path in files.items())]
    assert verb(["task=chair", *options, f"outputs={tmp_path}/captions.jsonl", f"out={tmp_path}/score.json"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 of 4 examples have no output" in printed and "coverage 0.75" in printed and "recall" in printed
    assert json.loads((tmp_path / "score.json").read_text())["metrics"]["coverage"] == 0.75
