"""POPE's construction and CHAIR's counts on hand-made cases."""

import random

import pytest

from zoo.material.scenes import coco
from zoo.recipes import vlm_eval
from zoo.recipes.vlm_eval import Poll

IMAGES = {
    0: ["cup", "fork", "bowl"],
    1: ["cup", "fork", "book"],
    2: ["cup", "dog"],
    3: ["chair", "cup", "cow"],
    4: ["dog", "horse", "cow"],
}


def test_images_with_fewer_than_three_objects_are_left_out() -> None:
    assert {poll.image for poll in vlm_eval.polls(IMAGES, random.Random(0))["random"]} == {0, 1, 3, 4}


def test_popular_asks_the_most_frequent_absent_object() -> None:
    asked = [poll.name for poll in vlm_eval.polls(IMAGES, random.Random(0))["popular"] if not poll.present]
    assert asked == ["cow", "book", "chair", "cow", "bowl", "chair", "fork", "bowl", "book", "cup", "fork", "bowl"]


def test_adversarial_asks_what_occurs_beside_the_object_asked_before() -> None:
    asked = [poll.name for poll in vlm_eval.polls(IMAGES, random.Random(0))["adversarial"] if poll.image == 1]
    assert asked[:3] == ["cup", "bowl", "fork"]
    assert not {asked[3], asked[5]} & {"cup", "bowl", "fork", "book"}  # nothing left beside them: by chance


@pytest.mark.parametrize("split", vlm_eval.SPLITS)
def test_half_of_the_answers_are_yes_and_no_question_is_asked_twice(split: str) -> None:
    images = vlm_eval.contents(coco(3, 60)[0])
    asked = vlm_eval.polls(images, random.Random(1))[split]
    assert len(asked) == len(set(asked)) == 6 * 60
    assert [poll.present for poll in asked[:4]] == [True, False, True, False]
    assert all((poll.name in images[poll.image]) == poll.present for poll in asked)


def test_what_is_neither_yes_nor_no_is_wrong() -> None:
    asked = [Poll(0, "cup", True), Poll(0, "dog", False), Poll(1, "cup", True)]
    found = vlm_eval.graded(asked, ["Yes", "No.", "A cup"])
    assert found["accuracy"] == pytest.approx(200 / 3)
    assert found["unknown"] == pytest.approx(100 / 3)


def test_chair_counts_every_mention() -> None:
    captions = ["A dog and a cell phone. The dog is small.", "A person."]
    found = vlm_eval.chair(captions, [{"dog", "person"}, {"dog", "person"}])
    assert found["chair_i"] == pytest.approx(100 / 4)
    assert found["chair_s"] == pytest.approx(50.0)
    assert found["recall"] == pytest.approx(50.0)


def test_captions_without_objects_are_no_error() -> None:
    assert vlm_eval.chair(["Nothing."], [{"dog"}])["chair_i"] == 0.0
