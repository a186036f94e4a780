"""RULER's metrics on the worked examples, in percent as the reference reports them."""

import pytest

from harness.contracts.example import Example
from tasks.ruler import Ruler
from tasks.ruler.scoring import postprocess, score

UUID = "550e8400-e29b-41d4-a716-446655440000"
NUMBERS = ["1111111", "2222222", "3333333", "4444444"]
WORDS = ["apple", "table", "chair", "stone", "river", "cloud", "grass", "horse", "bread", "glass"]
VARIABLES = ["ABCDE", "FGHIJ", "KLMNO", "PQRST", "UVWXY"]
CASES = [
    ("12345678", ["1234567"], 100, 100),
    ("1,234,567", ["1234567"], 0, 0),
    ("", ["1234567"], 0, 0),
    ("1111111, 2222222, and 3333333.", NUMBERS, 75, 100),
    ("pineapple tables armchair", WORDS, 30, 100),
    ("ABCDEFGHIJKLMNOPQRSTUVWXY", VARIABLES, 100, 100),
    (UUID.replace("-", " "), [UUID], 0, 0),
    ("Yesterday", ["yes"], 100, 100),
    ("nothing", ["no"], 100, 100),
    ("cafe\u0301", ["caf\u00e9"], 0, 0),
    ("STRASSE", ["stra\u00dfe"], 0, 0),
    ("an\x00swer", ["answer"], 0, 0),
    ("ans\twer", ["ans\nwer"], 100, 100),
    ("anything", [""], 0, 0),  # any text holds it: the reference counts it as found
    ("France", ["France", " "], 50, 100),
    ("in the country of france.", ["France", "the country of France", "Gaul"], 66.67, 100),
]


@pytest.mark.parametrize(("text", "references", "everything", "part"), CASES)
def test_worked_examples(text, references, everything, part):
    assert round(100 * score(text, references, "all").metrics["score"], 2) == everything
    assert round(100 * score(text, references, "part").metrics["score"], 2) == part


@pytest.mark.parametrize("text", ["", "  ", "\n\t\x00", None])
def test_an_empty_output_is_a_null_and_flagged(text):
    got = score(text, ["1"], "all")
    assert (got.metrics, got.flags) == ({"score": 0.0, "null": 1.0}, ("empty",))


@pytest.mark.parametrize("metric", ["all", "part"])
def test_no_references_score_zero_with_a_flag(metric):
    got = score("something", [], metric)
    assert (got.metrics, got.flags) == ({"score": 0.0, "null": 0.0}, ("no_reference",))


def test_only_control_characters_below_u0020_become_newlines():
    assert postprocess(" \x1b a\x00b\tc\x7fd\u0085 ") == "a\nb\nc\x7fd"


@pytest.mark.parametrize(
    ("task", "expected"), [("qa_1", 1.0), ("qa_2", 1.0), ("vt", 0.5), ("", 0.5), ("qa_other", 1.0)]
)
def test_the_task_of_the_example_chooses_the_metric(task, expected):
    example = Example(id="x", references=("one", "two"), meta={"task": task})
    assert Ruler().score(example, "One.").metrics["score"] == expected
