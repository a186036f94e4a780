"""From answers to accuracy, F1 and the rest: hand-computed numbers, splits, conversations, and nothing that raises."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.analysis.statistics import aggregate, paired
from harness.contracts.example import Example
from harness.contracts.question import Dialogue, Generate, Unreadable
from tasks.pope import Pope
from tasks.pope.metrics import METRICS

BY_NAME = {metric.name: metric for metric in METRICS}


def question(label: str, splits=("random",), image="a.jpg", **more) -> Example:
    return Example("1", Generate(images=(image,)), (label,), cluster=image, meta={"splits": list(splits)}, **more)


def values(task: Pope, answered: list[tuple[Example, str | None]]) -> dict[str, float | None]:
    rows = [dict(task.score(example, text).metrics) for example, text in answered]
    clusters = [example.cluster for example, _ in answered]
    return {metric.name: aggregate(metric, rows, clusters).value for metric in task.metrics}


def test_a_split_by_hand():
    answers = (
        [("yes", "Yes")] * 3 + [("yes", "No")] + [("no", "yes")] * 2 + [("no", "no")] * 2
    )  # TP 3, FN 1, FP 2, TN 2
    found = values(Pope(), [(question(label), text) for label, text in answers])
    assert found["accuracy"] == found["accuracy_random"] == 5 / 8
    assert (found["precision"], found["recall"], found["f1"]) == (3 / 5, 3 / 4, pytest.approx(6 / 9))
    assert found["yes_ratio"] == 5 / 8 and found["unknown"] == found["disagreement"] == 0.0
    assert found["accuracy_popular"] is None and found["f1_adversarial"] is None


def test_the_headline_is_the_mean_over_splits_and_a_shared_question_counts_in_each():
    shared = question("yes", ("random", "popular", "adversarial"))
    own = {"random": "No", "popular": "No", "adversarial": "Yes"}
    rows = [(shared, "Yes"), *((question("no", (split,)), text) for split, text in own.items())]
    found = values(Pope(), rows)
    assert [found[f"accuracy_{s}"] for s in ("random", "popular", "adversarial")] == [1.0, 1.0, 0.5]
    assert found["accuracy"] == pytest.approx(2.5 / 3) and found["f1"] == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert found["yes_ratio"] == pytest.approx((0.5 + 0.5 + 1.0) / 3)


def test_a_question_that_stands_twice_in_a_file_counts_twice():
    once, twice = (values(Pope(), [(question("yes", ("random",) * n), "Yes"), (question("no"), "Yes")]) for n in (1, 2))
    assert once["accuracy"] == 0.5 and twice["accuracy"] == pytest.approx(2 / 3)


def test_shared_questions_give_the_numbers_of_questions_asked_one_by_one():
    task = Pope(scenes=12)
    examples = list(task.examples(None))
    texts = {e.id: ("Yes", "No", "No, there is none")[i % 3] for i, e in enumerate(examples)}
    rows = [(e, texts[e.id]) for e in examples]
    apart = [(replace(e, meta={**e.meta, "splits": [s]}), texts[e.id]) for e in examples for s in e.meta["splits"]]
    assert values(task, rows) == pytest.approx(values(task, apart))
    assert len(apart) == len(task.all_questions()) > len(rows)


@pytest.mark.parametrize("text", [None, "", "  ", "No", "\0" * 9, "é" * 999])
@pytest.mark.parametrize("policy", ["official", "opera", "vcd", "lmms", "vlmevalkit", "strict"])
def test_nothing_raises_and_nothing_over_nothing_is_0(text, policy):
    for label in ("yes", "no"):
        found = values(Pope(policy=policy), [(question(label), text)])
        assert all(
            0.0 <= found[name] <= 1.0 for name in ("accuracy", "f1", "precision", "recall", "yes_ratio", "unknown")
        )
    assert values(Pope(), [(question("no"), "No")])["precision"] == 0.0
    assert values(Pope(), [(question("no"), "No")])["f1"] == 0.0


def test_unknown_answers_are_wrong_and_counted():
    rows = [(question("yes"), "perhaps"), (question("no"), "perhaps"), (question("yes"), "Yes"), (question("no"), "No")]
    found = values(Pope(policy="vlmevalkit"), rows)
    assert (found["accuracy"], found["unknown"], found["recall"], found["yes_ratio"]) == (0.5, 0.5, 0.5, 0.25)
    assert Pope(policy="lmms").score(rows[0][0], "perhaps").flags == ("unknown",)


@pytest.mark.parametrize("policy", ["official", "opera", "vcd", "lmms", "vlmevalkit", "strict"])
def test_an_answer_that_does_not_exist_is_wrong_under_every_policy(policy):
    found = values(Pope(policy=policy), [(question("yes"), None), (question("no"), None)])
    assert (found["accuracy"], found["unknown"], found["yes_ratio"]) == (0.0, 1.0, 0.0)


def test_every_row_has_the_strict_reading_and_says_where_they_differ():
    score = Pope().score(question("no"), "There isn't a dog.")
    assert score.parsed == {"official": "yes", "strict": "no"} and score.metrics["disagree@random"] == 1.0
    assert Pope().score(question("no"), "").flags == ("empty",)
    assert Pope(policy="strict").score(question("no"), "No").parsed == {"strict": "no"}
    assert Pope(policy="opera").scorer == "pope/opera"


def test_a_conversation_adds_up_its_answers():
    example = replace(
        question("yes", ("popular",)), question=Dialogue(turns=("b", "c")), references=("yes", "no", "yes")
    )
    score = Pope(chat=True).score(example, ["Yes", "Yes", "No"])
    assert (score.metrics["asked@popular"], score.metrics["correct@popular"], score.metrics["f1_den@popular"]) == (
        3,
        1,
        4,
    )
    assert [p["official"] for p in score.parsed] == ["yes", "yes", "no"]
    short = Pope().score(example, example.question.read('["No"]'))
    assert short.metrics["asked@popular"] == 3.0 and short.flags == ("empty",)
    for text in ("Yes", "{}", '"x"', "[[", "7"):
        with pytest.raises(Unreadable, match="unparsed"):
            example.question.read(text)
    assert Pope().score(example, None).flags == ("empty", "unknown")
    read = example.question.read(json.dumps([None, 3, "No", "No", "No"]))
    assert Pope().score(example, read).metrics["asked@popular"] == 3.0


def test_the_pair_of_methods_is_tested_over_images():
    task = Pope(scenes=40)
    examples = list(task.examples(None))
    rows = {a: [dict(task.score(e, text(e)).metrics) for e in examples] for a, text in
            (("right", lambda e: e.references[0]), ("yes", lambda e: "Yes"))}  # fmt: skip
    clusters = [e.cluster for e in examples]
    got = paired(BY_NAME["f1"], rows["yes"], rows["right"], clusters)
    assert got.value == pytest.approx(2 / 3 - 1) and got.significant and got.n_clusters == 40
    alone = paired(BY_NAME["f1_popular"], rows["yes"], rows["right"], clusters)
    assert alone.n == sum("popular" in e.meta["splits"] for e in examples) and alone.n_missing == 0
