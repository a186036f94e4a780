"""Generated examples: deterministic, inside their length, answerable, tokenised as the benchmarks tokenise them."""

import random

import pytest

from zoo.recipes import lm_data, lm_tasks, lm_tokenizer, lm_wording
from zoo.recipes.lm_filler import essay_sentences, learned_sentences
from zoo.recipes.lm_rows import Encoder, Part, Row

TASKS = ("passkey", "niah1", "niah4", "haystack", "short", "many", "tracking", "dialogue", "plain")


@pytest.fixture(scope="module")
def enc() -> Encoder:
    return Encoder(lm_tokenizer.build())


def text(parts: list[Part]) -> str:
    return "".join(part.text for part in parts)


@pytest.mark.parametrize("task", TASKS)
def test_piecewise_tokens_equal_the_tokens_of_the_whole_text(enc: Encoder, task: str) -> None:
    for seed in range(20):
        parts = lm_data.draw(random.Random(seed), enc, 512, task)
        row = enc.row(parts)
        assert row.ids == [*enc.tokenizer.encode(text(parts)), enc.eos]
        assert len(row.weights) == len(row.ids)


@pytest.mark.parametrize("task", [name for name in TASKS if name not in ("plain", "short", "dialogue")])
def test_the_first_asked_value_stands_in_the_context(enc: Encoder, task: str) -> None:
    for seed in range(20):
        parts = lm_data.draw(random.Random(seed), enc, 512, task)
        at = next(i for i, part in enumerate(parts) if part.kind == "answer")
        before = text(parts[:at])
        assert all(word in before for word in parts[at].text.replace(", and", "").replace(",", "").strip(" .").split())


def test_a_batch_depends_on_seed_and_step_only(enc: Encoder) -> None:
    def rows(seed: int, step: int) -> list[Row]:
        return lm_data.batch(seed, step, enc, 256, 4, {"niah4": 1.0, "tracking": 1.0}, 0.0, 500)

    assert rows(0, 7) == rows(0, 7)
    assert rows(0, 7) != rows(0, 8)
    assert rows(0, 7) != rows(1, 7)
    assert all(len(row.ids) <= 256 for row in rows(3, 3))


def test_more_held_out_examples_never_change_the_first(enc: Encoder) -> None:
    few, many = (lm_data.held_out("niah 4 keys essay", 512, count, enc) for count in (2, 5))
    assert many[:2] == few


@pytest.mark.parametrize("task", ["passkey noise", "niah 4 keys essay", "niah needle haystack", "tracking 4 hops"])
def test_held_out_examples_fill_their_length(enc: Encoder, task: str) -> None:
    for parts in lm_data.held_out(task, 512, 10, enc):
        assert 512 - 45 <= len(enc.row(parts).ids) <= 512


def test_singular_wording_is_rulers_and_leaves_keys_alone(enc: Encoder) -> None:
    assert lm_wording.singular(lm_wording.NIAH_HEAD).startswith("A special magic {kind} is hidden within")
    assert lm_wording.singular(lm_wording.NIAH_QUESTION).startswith("What is the special magic {kind} for {query}")
    for seed in range(200):
        parts = lm_tasks.niah(random.Random(seed), enc, 256, "noise")
        key = parts[1].text.split(" for ")[1].split(" mentioned")[0]
        assert f"numbers for {key} is:" in parts[0].text


def test_passkey_drops_empty_filler_lines(enc: Encoder) -> None:
    for seed in range(50):
        prompt = text(lm_tasks.passkey(random.Random(seed), enc, 160)[:-1])
        assert "\n\n" not in prompt
        assert prompt.endswith("\nWhat is the pass key? The pass key is")


def test_the_first_chunk_of_every_answer_weighs_most(enc: Encoder) -> None:
    row = enc.row(lm_tasks.tracking(random.Random(0), enc, 256, hops=2))
    assert sum(weight == enc.first_weight for weight in row.weights) == 3
    row = enc.row(lm_tasks.niah(random.Random(0), enc, 384, values=4))
    assert sum(weight == enc.first_weight for weight in row.weights) == 4


def test_repeats_learn_only_the_repetition(enc: Encoder) -> None:
    row = lm_tasks.repeat(random.Random(0), enc, 128, 500)
    learned = [i for i, weight in enumerate(row.weights) if weight]
    assert len(row.ids) == 128
    assert learned == list(range(learned[0], 128))
    period = learned[0] - 1
    assert row.ids[1 + period : 1 + 2 * period] == row.ids[1 : 1 + len(row.ids[1 + period : 1 + 2 * period])]


def test_no_validation_sentence_is_learned_as_text(enc: Encoder) -> None:
    kept = essay_sentences()[learned_sentences() :]
    seen = " ".join(text(lm_tasks.plain(random.Random(seed), enc, 256)) for seed in range(50))
    assert not any(sentence in seen for sentence in kept if len(sentence) > 30)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ValueError, match="nothing"):
        lm_data.draw(random.Random(0), None, 64, "nothing")  # type: ignore[arg-type]
