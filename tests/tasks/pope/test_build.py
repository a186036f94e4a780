"""The three question sets follow the published construction, draw by draw."""

from __future__ import annotations

from random import Random

import pytest

from harness.errors import UserError
from tasks.coco import Annotations, from_dict
from tasks.pope.build import build, poll, question_text
from tasks.pope.questions import SPLITS, per_split
from zoo.material import scenes


def annotated(*images: str) -> Annotations:
    """Images 0, 1, ... from their objects, one letter each."""
    objects = {i: tuple(letters) for i, letters in enumerate(images)}
    return Annotations({i: f"{i}.jpg" for i in objects}, {}, objects)


def asked(questions, split: str) -> list[str]:
    return [q.text.split()[-4] for q in per_split(questions)[split]]


SMALL = annotated("cdb", "bdf", "fbh", "cgh")  # b d f c h: 3 2 2 2 2, g: 1


def test_popular_asks_for_the_most_frequent_absent_object_and_breaks_ties_by_first_sight():
    polled = poll(SMALL, Random(0), 2, None)
    assert list(polled.frequency.items()) == [("c", 2), ("d", 2), ("b", 3), ("f", 2), ("h", 2), ("g", 1)]
    # image 0 holds c d b, so f then h; image 1 holds b d f: c, h; image 2 f b h: c, d; image 3 c g h: b, d
    assert asked(build(SMALL, k=2), "popular") == [
        *("c", "f", "d", "h"), *("b", "c", "d", "h"), *("f", "c", "b", "d"), *("c", "b", "g", "d"),
    ]  # fmt: skip


def test_adversarial_asks_for_what_stands_most_often_beside_the_object_just_asked():
    beside = poll(SMALL, Random(0), 2, None).beside
    assert beside["b"] == ("d", "f", "c", "h") and beside["c"] == ("d", "b", "g", "h") and beside["g"] == ("c", "h")
    found = asked(build(SMALL, k=2), "adversarial")
    assert found[:4] == ["c", "g", "d", "f"]  # c: d and b are present, so g; d: b and c present, so f
    assert found[4:8] == ["b", "c", "d", found[7]] and found[7] not in "bdfc"  # d is left with nothing: random


def test_random_draws_until_an_absent_object_comes_in_the_reference_s_order():
    rng = Random(7)
    known = ["c", "d", "b", "f", "h", "g"]
    expected = []
    for objects in ("cdb", "bdf", "fbh", "cgh"):
        taken = set()
        for present in objects[:2]:
            taken.add(present)
            while (name := rng.choice(known)) in taken | set(objects):
                pass
            taken.add(name)
            expected += [present, name]
    assert asked(build(SMALL, seed=7, k=2), "random") == expected


def test_each_set_alternates_yes_and_no_and_is_numbered_from_1():
    found = per_split(build(from_dict(scenes.coco(1, 30)[0]), n_images=20))
    assert list(found) == list(SPLITS)
    for questions in found.values():
        assert [q.label for q in questions] == ["yes", "no"] * 60 and [q.number for q in questions] == [*range(1, 121)]
        assert len({(q.image, q.text) for q in questions}) == 120


def test_labels_tell_the_truth_and_positives_are_the_first_objects():
    annotations = from_dict(scenes.coco(2, 30)[0])
    objects = {annotations.images[i]: o for i, o in annotations.objects.items()}
    for questions in per_split(build(annotations, k=3)).values():
        for q in questions:
            assert (q.label == "yes") == any(q.text == question_text(o) for o in objects[q.image])
        for image, held in objects.items():
            mine = [q.text for q in questions if q.image == image and q.label == "yes"]
            assert mine == [question_text(o) for o in held[:3]]


def test_images_are_sampled_by_the_seed_and_need_k_objects():
    many = annotated(*["abc", "ab", "abd", "xyz"] * 5)
    names = {seed: list(poll(many, Random(seed), 3, 4).images) for seed in (0, 1)}
    assert names[0] != names[1] and names[0] == Random(0).sample([f"{i}.jpg" for i in range(20) if i % 4 != 1], 4)
    assert build(many, seed=3, n_images=4) == build(many, seed=3, n_images=4)
    with pytest.raises(UserError, match=r"16 images with at least 3 objects, but the annotations hold 15"):
        build(many, n_images=16)
    with pytest.raises(UserError, match="hold 0"):
        build(many, k=4)


def test_nothing_absent_is_an_error_where_the_reference_never_ends():
    with pytest.raises(UserError, match=r"no object left that is absent from 0\.jpg: the images hold only 3 kinds"):
        build(annotated("abc", "cba"))


def test_articles_and_the_typo():
    assert question_text("dog") == "Is there a dog in the image?"
    assert question_text("orange") == "Is there an orange in the image?"
    assert question_text("hourglass") == "Is there a hourglass in the image?"
    assert question_text("Orange") == "Is there a Orange in the image?"
    assert question_text("orange", typo=True) == "Is there an orange in the imange?"
    assert question_text("dog", typo=True) == "Is there a dog in the image?"
