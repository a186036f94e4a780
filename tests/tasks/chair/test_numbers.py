"""Metrics by hand: the specification's example, and 20 captions of 8 invented images."""

from __future__ import annotations

import math

import pytest

from tasks.chair import Chair
from tasks.chair.count import mentions, numbers
from tasks.chair.vocabulary import read
from tests.tasks.chair.material import example, totals

TASK = Chair()
TRUTH = {
    1: ("dog", "person"), 2: ("cat", "couch"), 3: ("car", "person", "traffic light"),
    4: ("dining table", "pizza", "knife"), 5: ("bus",), 6: ("elephant", "zebra"), 7: ("toilet", "sink"), 8: (),
}  # fmt: skip
# image, caption, tokens, nodes, hallucinated, distinct correct nodes, distinct nodes
CAPTIONS = [
    (1, "A dog and two cats.", 6, 2, 1, 1, 2),
    (1, "A person.", 3, 1, 0, 1, 1),
    (1, "A man walks his puppy.", 6, 2, 0, 2, 2),
    (2, "A kitten sleeps on a sofa.", 7, 2, 0, 2, 2),
    (2, "A kitten, a dog and a dog.", 9, 3, 2, 1, 2),
    (2, "", 0, 0, 0, 0, 0),
    (3, "A taxi waits at the traffic lights.", 7, 2, 0, 2, 2),
    (3, "Women beside a sedan and a bicycle.", 8, 3, 1, 2, 3),
    (3, "A street light.", 3, 1, 0, 1, 1),
    (4, "Pizza and knives on the table.", 7, 3, 0, 3, 3),
    (4, "A desk with a cup and a wine glass.", 9, 3, 2, 1, 3),
    (4, "Food.", 2, 0, 0, 0, 0),
    (5, "Two buses and a passenger train.", 6, 2, 1, 1, 2),
    (5, "A bus on the street.", 6, 1, 0, 1, 1),
    (6, "A baby elephant near zebras.", 5, 2, 0, 2, 2),
    (6, "Elephants, elephants, elephants.", 6, 3, 0, 1, 1),
    (7, "A toilet seat above the sink.", 6, 2, 0, 2, 2),
    (7, "The seat of the toilet.", 6, 1, 0, 1, 1),
    (7, "A chair.", 3, 1, 1, 0, 1),
    (8, "A bench by the sea.", 6, 1, 1, 0, 1),
]


def scored(image: int, caption: str | None) -> dict[str, float]:
    return dict(TASK.score(example(TRUTH[image], str(image)), caption).metrics)


def test_the_specifications_example() -> None:
    rows = [TASK.score(example(["dog", "person"]), text).metrics for text in ("A dog and two cats.", "A person.")]
    found = totals(rows)
    assert found["chair_i"] == pytest.approx(1 / 3, abs=1e-12) and found["chair_s"] == 1 / 2
    assert found["recall"] == 2 / 4 and found["precision"] == pytest.approx(2 / 3, abs=1e-12)
    assert found["f1"] == pytest.approx(4 / 7, abs=1e-12) and round(found["f1"] or 0, 4) == 0.5714


@pytest.mark.parametrize("row", CAPTIONS, ids=lambda row: row[1])
def test_each_caption_counts_as_by_hand(row: tuple) -> None:
    image, caption, length, nodes, hallucinated, covered, mentioned = row
    found = scored(image, caption)
    counted = [found[key] for key in ("length", "nodes", "hallucinated", "covered", "mentioned", "truth")]
    assert counted == [length, nodes, hallucinated, covered, mentioned, len(TRUTH[image])]


def test_the_sums_of_twenty_captions_are_those_by_hand() -> None:
    found = totals([scored(row[0], row[1]) for row in CAPTIONS])
    expected = {
        "chair_s": 7 / 20, "chair_i": 9 / 35, "recall": 24 / 42, "precision": 24 / 32, "f1": 48 / 74,
        "length": 111 / 20, "coverage": 1.0,
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-12)


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    found = totals([scored(row[0], row[1]) for row in CAPTIONS])
    p, r = found["precision"] or 0, found["recall"] or 0
    assert found["f1"] == pytest.approx(2 * p * r / (p + r), abs=1e-12)


@pytest.mark.parametrize("text", ["", "  \n", "The sky."])
def test_nothing_named_is_zero_with_a_flag_and_never_nan(text: str) -> None:
    score = TASK.score(example(["dog"]), text)
    assert "no_node" in score.flags and ("empty" in score.flags) == (not text.strip())
    found = totals([score.metrics])
    assert found == {"chair_s": 0, "chair_i": 0, "recall": 0, "f1": 0, "precision": 0,
                     "length": score.metrics["length"], "coverage": 1}  # fmt: skip
    assert all(math.isfinite(value) for value in score.metrics.values())


def test_a_caption_that_does_not_exist_counts_for_the_coverage_only() -> None:
    score = TASK.score(example(["dog"]), None)
    assert (score.metrics, score.flags) == ({"coverage": 0.0}, ("empty",))
    found = totals([score.metrics, TASK.score(example(["dog"]), "A dog.").metrics])
    assert (found["coverage"], found["recall"], found["length"]) == (0.5, 1.0, 3.0)


def test_an_image_without_any_known_object_is_flagged() -> None:
    score = TASK.score(example([]), "A dog.")
    assert score.flags == ("no_truth",) and score.metrics["chair_s"] == 1 and totals([score.metrics])["recall"] == 0


def test_positions_stay_right_when_a_seat_is_dropped() -> None:
    found = mentions(["the", "seat", "of", "a", "toilet", "and", "a", "dog"], read())
    assert (found.nodes, found.positions, found.length) == (("toilet", "dog"), (4, 7), 8)


def test_the_second_half_of_the_words_is_late() -> None:
    found = numbers(mentions(["a", "dog", "and", "a", "cat", "."], read()), {"dog"})  # positions 1 and 4 of 6
    assert (found["nodes_late"], found["hallucinated_late"], found["nodes"]) == (1, 1, 2)


def test_lower_is_better_and_length_is_no_percentage() -> None:
    facts = {metric.name: metric for metric in Chair.metrics}
    assert next(iter(facts)) == "chair_s"
    assert [name for name, metric in facts.items() if not metric.higher_is_better] == ["chair_s", "chair_i"]
    assert not facts["length"].percent and all(m.percent for name, m in facts.items() if name != "length")
