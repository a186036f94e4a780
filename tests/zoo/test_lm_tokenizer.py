"""The zoo tokenizer returns every text unchanged and cuts prompts and answers where the tasks do."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from zoo.material.text import words
from zoo.recipes import lm_tokenizer

TEXTS = (
    "",
    " ",
    "  two  spaces and a tab\t and lines\n\n\r\n",
    "héllo wörld, 中文, Ελληνικά, 🙂🏳️‍🌈",
    "control \x00\x01\x07\x1b\x7f characters and \u00a0\u2028 separators",
    "550e8400-e29b-41d4-a716-446655440000",
    "007 0 00 12,345.67 1234567",
    "VAR ABCDE = VAR FGHIJ \nVAR A = 12345 VARIOUS QVAR XVAR AB",
    "Unbelievably zyxq-qwerty don't CamelCase iPhone ABCdef",
    "\"quoted\" 'text' (in) [many] {kinds} <of> brackets; a/b\\c_d*e#f@g",
)
BOUNDARIES = (
    ("What is the pass key? The pass key is", " 12345."),
    ("for brave-table mentioned in the provided text is", " 1234567."),
    ("mentioned in the provided text are", " 1234567, 7654321, and 1000000."),
    ("mentioned in the provided text is", " e50e8400-e29b-41d4-a716-446655440000."),
    ("are assigned the value 12345, they are: ", "ABCDE FGHIJ KLMNO"),
    ("User: What is my favorite table?\nAssistant: Your favorite table is", " brave."),
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return lm_tokenizer.build()


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_unchanged(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


@pytest.mark.parametrize(("prompt", "answer"), BOUNDARIES)
def test_prompt_and_answer_can_be_tokenised_apart(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> None:
    whole, first, second = (
        tokenizer.encode(text, add_special_tokens=False) for text in (prompt + answer, prompt, answer)
    )
    assert whole == first + second


def test_numbers_names_and_keys_are_few_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.tokenize("VAR ABCDE = 12345") == ["VARĠ", "AB", "CD", "E", "Ġ=", "Ġ", "123", "45"]
    assert tokenizer.tokenize(" brave-table is: 1234567.") == [
        "Ġbrave", "-table", "Ġis", ":", "Ġ", "123", "456", "7", ".",
    ]  # fmt: skip
    assert tokenizer.tokenize("007") == ["007"]


def test_every_listed_word_is_one_token(tokenizer: PreTrainedTokenizerBase) -> None:
    listed = (*words.nouns(), *words.adjectives(), *words.verbs())
    assert all(len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1 for word in listed)
    assert all(len(tokenizer.encode(f"{word}", add_special_tokens=False)) == 1 for word in listed)


def test_a_start_token_is_added_and_there_is_no_unknown_token(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.encode("The pass key")[0] == tokenizer.bos_token_id
    assert tokenizer.unk_token is None
    assert tokenizer.eos_token_id != tokenizer.pad_token_id


def test_a_saved_tokenizer_loads_offline_and_agrees(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    lm_tokenizer.save(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*TEXTS, *(prompt + answer for prompt, answer in BOUNDARIES)):
        assert loaded.encode(text) == tokenizer.encode(text)


def test_two_builds_give_the_same_vocabulary(tokenizer: PreTrainedTokenizerBase) -> None:
    assert lm_tokenizer.build().get_vocab() == tokenizer.get_vocab()
