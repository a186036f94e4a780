"""Published question files in all their layouts, and rows that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import UserError
from tasks.pope.loaders import files_of, load

ROWS = [
    {"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a snowboard in the image?", "label": "yes"},
    {"question_id": 2, "image": "COCO_val2014_000000310196.jpg", "text": "Is there an orange in the imange?", "label": "no"},
]  # fmt: skip


def test_lines_and_pretty_printed_lists_are_read_and_left_untouched(tmp_path):
    (tmp_path / "a.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "b.json").write_text(json.dumps(ROWS, indent=4))
    for name in ("a.json", "b.json"):
        assert [q.official() for q in load("random", tmp_path / name)] == ROWS


def test_popev2_is_read(tmp_path):
    row = {"image_id": 46207, "target_object": "remote", "query": "Is there a remote in the image?"}
    names = {"/images/1.jpg": "No", "/coco/train2017/1.jpg": "Yes"}
    rows = [row | {"image_name": name, "label": label} for name, label in names.items()]
    (tmp_path / "v2.json").write_text(json.dumps(rows, indent=4))
    found = load("other", tmp_path / "v2.json")
    assert [(q.image, q.label, q.number) for q in found] == [
        ("images/1.jpg", "no", 1),
        ("coco/train2017/1.jpg", "yes", 2),
    ]
    assert found[0].text == "Is there a remote in the image?"


def test_numbers_with_gaps_and_texts_as_numbers_are_kept(tmp_path):
    rows = [ROWS[0] | {"question_id": "17"}, {k: v for k, v in ROWS[1].items() if k != "question_id"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert [q.number for q in load("random", tmp_path / "a.json")] == [17, 2]


def test_the_split_is_in_the_name_or_given():
    names = ["coco_pope_random.json", "x/coco_pope_POPULAR.json", "annotations.json"]
    assert [s for s, _ in files_of(names)] == ["random", "popular", "other"]
    assert files_of({"adversarial": "a.json", "random": ["b.json", "popular.json"]}) == (
        ("adversarial", Path("a.json")), ("random", Path("b.json")), ("random", Path("popular.json")),
    )  # fmt: skip
    assert files_of(None) == () and files_of("adversarial.jsonl")[0][0] == "adversarial"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"label": "maybe"}, "the label is 'maybe', neither yes nor no"),
        ({"label": None}, "'label' is null, not a text"),
        ({"text": " "}, "'text' is blank"),
        ({"image": 17}, "'image' is a number .17., not a text"),
        ([1], "holds a list, not an object"),
    ],
)
def test_a_bad_row_is_named_with_its_file_and_line(tmp_path, second, message):
    bad = ROWS[1] | second if isinstance(second, dict) else second
    (tmp_path / "a.json").write_text("".join(json.dumps(row) + "\n" for row in (ROWS[0], bad)))
    with pytest.raises(UserError, match=message) as caught:
        load("random", tmp_path / "a.json")
    assert "a.json, line 2" in str(caught.value)
    (tmp_path / "b.json").write_text(json.dumps([ROWS[0], bad], indent=4))
    with pytest.raises(UserError, match=r"b\.json, entry 2"):
        load("random", tmp_path / "b.json")
