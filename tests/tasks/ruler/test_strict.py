"""The strict mode: fingerprints of prompts that the reference implementation writes for the same material and
tokenizer.

Each is over (input, outputs, answer_prefix, length) of three samples, made with NVIDIA/RULER at c3f5e3b and
`WordTokens`.
"""

import hashlib
import json
from random import Random

import pytest

import tasks.ruler.job as job
from harness.contracts.example import Example, Skipped
from harness.errors import UserError
from tasks.ruler import Ruler
from tasks.ruler.haystack import split_rules
from tasks.ruler.pools import KeyPool, load_words
from tasks.ruler.strict.search import TRIES, settle
from tasks.ruler.templates import Built
from tests.tasks.ruler.material import FILES, WORDS, essay
from tests.toy import ByteTokens, WordTokens

FINGERPRINTS = {
    "niah_single_1": ("c4e15b66674fce46", "3f89cd389e27fbe5"),
    "niah_single_2": ("ed3ec9ad511f730b", "7ad93af513aaeb18"),
    "niah_single_3": ("1e50730a5eb6fd51", "494f7c3ce24c83ac"),
    "niah_multikey_1": ("b237e1f4c390a6ae", "11bc9d2be0a3f433"),
    "niah_multikey_2": ("4b64fc1cb1815003", "5b1d4ceb3445b813"),
    "niah_multikey_3": ("d2eb31bfbf212bb2", "50bc24ca124fa8e4"),
    "niah_multivalue": ("52442a63ee1103de", "91f4f3043169f644"),
    "niah_multiquery": ("529349ec012eb523", "5be37827d934f9b8"),
    "vt": ("f16ab11705cb14e8", "2f10104fc0d5c228"),
    "cwe": ("7bd9c1eb4e124402", "77d8910b39f07633"),
    "fwe": ("c81a80948587f9fb", "e81081519871f4ff"),
    "qa_1": ("3ca1b7eef968e357", "633d21142d46ed48"),
    "qa_2": ("c0323c52c1801c56", "f5f062c9e9cab7b9"),
}
SETTINGS = ((2048, 42), (4096, 7))  # length, seed


@pytest.fixture
def strict(tmp_path, monkeypatch):
    """Builds a strict task over material that never changes."""
    monkeypatch.setattr(job, "load_words", lambda source: WORDS)
    monkeypatch.setattr(job, "strict_splitter", lambda: ("rules", split_rules))
    path = tmp_path / "essay.txt"
    path.write_text(essay())
    return lambda **options: Ruler(mode="strict", words="builtin", essay_path=str(path), **FILES, **options)


def fingerprint(task, items):
    rows = [task.official_row(e) for e in items]
    values = [[row[key] for key in ("input", "outputs", "answer_prefix", "length")] for row in rows]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_prompts_equal_the_reference(strict, name):
    for (length, seed), expected in zip(SETTINGS, FINGERPRINTS[name], strict=True):
        task = strict(tasks=[name], lengths=[length], samples=3, seed=seed)
        items = list(task.examples(WordTokens()))
        assert fingerprint(task, items) == expected
        assert all(e.meta["row_length"] <= length for e in items)


def test_more_samples_and_other_lengths_change_no_example(strict):
    few = list(strict(tasks=["vt", "fwe"], lengths=[1024], samples=2, seed=1).examples(WordTokens()))
    more = {e.id: e for e in strict(tasks=["fwe", "vt"], lengths=[512, 1024], samples=3, seed=1).examples(WordTokens())}
    assert [more[e.id] for e in few] == few


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_what_the_reference_would_try_for_ever_ends_with_a_reason(strict, name):
    items = list(strict(tasks=[name], lengths=[256], samples=2).examples(ByteTokens()))
    assert len(items) == 2
    assert all(isinstance(item, Skipped) and item.reason for item in items)


def test_common_words_beyond_the_word_lists_are_skipped_with_the_reason(strict, monkeypatch):
    monkeypatch.setattr(job, "load_words", load_words)
    items = list(strict(tasks=["cwe"], lengths=[1024], samples=2).examples(WordTokens()))
    assert [type(item) for item in items] == [Skipped, Skipped]
    assert "4096 different words are needed" in items[0].reason


def test_questions_beyond_the_file_are_skipped(strict):
    items = list(strict(tasks=["qa_2"], lengths=[4096], samples=15).examples(WordTokens()))
    assert [isinstance(item, Example) for item in items] == [True] * 14 + [False]
    assert "only 14" in items[-1].reason


@pytest.mark.parametrize(
    ("task", "option"), [("qa_1", "squad_path"), ("qa_2", "hotpot_path"), ("niah_single_2", "essay_path")]
)
def test_a_missing_file_is_one_sentence_with_the_three_ways(task, option):
    with pytest.raises(UserError, match=f"task.ruler.{option}=<file>, or generate .*, or get the file from ") as error:
        Ruler(tasks=[task], mode="strict", words="builtin").validate()
    assert "\n" not in str(error.value)


def test_the_key_pool_is_the_sorted_set_of_all_pairs():
    pool = KeyPool(WORDS)
    everything = sorted({f"{a}-{n}" for a in WORDS.adjectives for n in WORDS.nouns})
    assert len(pool) == len(everything)
    places = [0, len(pool) - 1, *Random(1).sample(range(len(pool)), 3000)]
    assert [pool[i] for i in places] == [everything[i] for i in places]
    with pytest.raises(IndexError):
        pool[len(pool)]


def test_sentences_by_rules():
    text = 'Mr. Ash saw J. Brown at St. Ives. "Well!" he said. Is it 3.5 miles? No. She lives here (so we heard.) Then'
    assert split_rules(text) == [
        "Mr. Ash saw J. Brown at St. Ives.",
        '"Well!" he said.',
        "Is it 3.5 miles?",
        "No.",
        "She lives here (so we heard.)",
        "Then",
    ]
    assert " ".join(split_rules(essay().replace("\n", " "))) == essay().replace("\n", " ")


def test_at_the_smallest_size_other_draws_are_tried_while_they_can_help():
    lengths = iter([900, 140, *(110 + i % 20 for i in range(99)), 100])
    sizes = []

    def build(size):
        sizes.append(size)
        return Built(prompt=str(size), prefix="", references=())

    built = settle(build, lambda _: next(lengths), size=25, step=10, limit=100)
    assert built is not None and built.prompt == "5"
    assert sizes == [25, 15] + [5] * 100
    sizes.clear()
    assert settle(build, lambda _: 101, size=25, step=10, limit=100) is None
    assert sizes == [25, 15] + [5] * TRIES
