"""What the default mode promises of every example."""

import json

import pytest

from harness.contracts.example import Example, Skipped
from tasks.ruler import Ruler
from tasks.ruler.catalog import CATALOG, TASKS
from tasks.ruler.robust.fit import largest
from tests.toy import ByteTokens, WordTokens

LENGTHS = (1024, 2048)


def build(tokens=None, **options):
    return list(Ruler(**{"lengths": LENGTHS, "samples": 2, "seed": 3} | options).examples(tokens or WordTokens()))


@pytest.fixture(scope="module")
def examples():
    return build()


def test_all_thirteen_tasks_are_built(examples):
    assert [(e.task, e.meta["length"]) for e in examples[::2]] == [(t, n) for t in TASKS for n in LENGTHS]
    assert len({e.id for e in examples}) == len(examples)


def test_every_reference_stands_in_the_prompt(examples):
    for e in examples:
        assert e.references and all(reference in e.question.prompt for reference in e.references), e.id


def test_every_needle_stands_once(examples):
    for e in examples:
        if e.task.startswith("niah"):
            assert len(e.meta["depths"]) == len(e.references)
            assert [e.question.prompt.count(f" is: {value}.") for value in e.references] == [1] * len(e.references)
        if e.task == "vt":
            assert [e.question.prompt.count(f"VAR {name} = ") for name in e.references] == [1] * 5


@pytest.mark.parametrize("tokens", [WordTokens(), ByteTokens()], ids=["words", "bytes"])
def test_prompt_and_answer_fill_the_length_and_never_more(tokens):
    for e in build(tokens, samples=1):
        if isinstance(e, Example):
            used = len(tokens.prompt_ids(e.question.prompt, e.question.answer_prefix))
            assert used == e.meta["n_tokens"]
            assert 0.85 * e.meta["length"] < used + e.question.max_new_tokens <= e.meta["length"], e.id


def test_one_more_unit_would_not_fit():
    tokens = WordTokens()
    one, same, more = (build(tokens, tasks=["niah_single_2"], lengths=[n], samples=1)[0] for n in (600, 600, 601))
    assert one == same
    assert more.meta["n_tokens"] + more.question.max_new_tokens in (600, 601)


def test_equal_seed_and_tokenizer_give_equal_bytes(examples):
    assert [e.to_row() for e in build()] == [e.to_row() for e in examples]
    assert build(seed=4)[0].question.prompt != examples[0].question.prompt


def test_more_samples_lengths_or_tasks_change_no_example(examples):
    known = {e.id: e for e in examples}
    other = build(tasks=[*reversed(TASKS)], lengths=(2048, 512), samples=3)
    shared = [e for e in other if e.id in known]
    assert len(shared) == 2 * len(TASKS) and all(known[e.id] == e for e in shared)


@pytest.mark.parametrize("length", [256, 384, 512, 1024])
def test_bytes_at_any_length_end_in_an_example_or_a_reason(length):
    for item in build(ByteTokens(), lengths=[length], samples=1):
        if isinstance(item, Skipped):
            assert str(length) in item.reason
        else:
            assert item.meta["n_tokens"] + item.question.max_new_tokens <= length


def test_prompts_without_room_for_the_solved_example_go_without():
    shots = [
        e.meta["shots"] for e in build(tasks=["vt", "cwe"], lengths=[350, 512], samples=1) if isinstance(e, Example)
    ]
    assert shots == [1, 1, 0]


def test_the_answer_of_frequent_words_is_never_tied():
    for e in build(tasks=["fwe"], lengths=[300, 512, 700, 1024]):
        counts = {
            word: e.question.prompt.split().count(word)
            for word in set(e.question.prompt.split(". ", 2)[2].split("\n")[0].split())
        }
        ranked = sorted((n for word, n in counts.items() if word != "..."), reverse=True)
        assert {counts[word] for word in e.references} == set(ranked[:3])
        assert len(ranked) == 3 or ranked[2] > ranked[3]


def test_parameters_change_the_generators():
    params = {"vt": {"hops": 2, "chains": 2, "shots": 0}, "niah_multikey_1": {"keys": 6, "values": 2, "queries": 2}}
    vt, niah = build(tasks=["vt", "niah_multikey_1"], lengths=[1024], samples=1, params=params)
    assert (
        len(vt.references) == 3 and vt.question.prompt.count("VAR ") == 10 and vt.question.prompt.startswith("Memorize")
    )
    assert len(niah.references) == 4 and niah.question.prompt.count("One of the special magic numbers") == 12
    assert "Some special magic numbers" in niah.question.prompt


def test_questions_start_again_when_the_file_is_short(tmp_path):
    record = {"question": "Who?", "answer": "Ann", "context": [["T", ["Ann did."]], ["U", ["Nobody did."]]]}
    path = tmp_path / "hotpot.json"
    path.write_text(json.dumps([record]))
    first, second = build(tasks=["qa_2"], lengths=[512], hotpot_path=str(path))
    assert first.references == second.references == ("Ann",)
    assert first.cluster == second.cluster == "qa_2:0"
    assert first.question.prompt.count("Document ") > 10  # two documents, repeated


def test_the_clusters_of_qa_are_articles_and_all_else_is_independent(examples):
    assert {e.cluster.split(":")[0] for e in examples} == {"", "qa_1", "qa_2"}
    assert all(bool(e.cluster) == e.task.startswith("qa") for e in examples)


def test_meta_says_what_the_text_is_made_of(examples):
    by_task = {e.task: e.meta for e in examples}
    assert by_task["niah_single_1"]["haystack"].startswith("noise#")
    assert by_task["niah_single_2"]["haystack"].startswith("builtin-essay#")
    assert by_task["cwe"]["words"].startswith("builtin#")
    assert by_task["qa_1"]["questions"].startswith("builtin-squad#")
    assert {meta["mode"] for meta in by_task.values()} == {"robust"}


@pytest.mark.parametrize("task", ["niah_single_1", "cwe", "qa_1"])
def test_own_room_for_answers_replaces_that_of_the_task(task):
    (example,) = build(tasks=[task], lengths=[1024], samples=1, max_new_tokens=16)
    assert example.question.max_new_tokens == 16 != CATALOG[task].max_new_tokens
    assert example.meta["n_tokens"] > 1024 - 16 - 60


@pytest.mark.parametrize("growth", [lambda n: n, lambda n: 3.0 * n, lambda n: n * n, lambda n: 0.0])
@pytest.mark.parametrize("limit", [9, 10, 57, 1000])
def test_the_search_finds_the_largest_size_whatever_the_guess(growth, limit):
    expected = None if limit < 10 else (limit - 10) // 3
    assert largest(lambda n: 10 + 3 * n, growth, limit) == expected
    assert largest(lambda n: 10 + 3 * n, growth, limit, high=5) == (None if expected is None else min(5, expected))
