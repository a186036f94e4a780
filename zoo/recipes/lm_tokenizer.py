"""The tokenizer of the zoo's language models: whole words and number chunks, bytes for everything else.

A regular expression cuts the text, a byte-level BPE looks each piece up as a whole (``ignore_merges``) and falls back
to a few short merges and finally to single bytes, so that any text round-trips. The cuts are chosen so that a prompt
and its answer can be tokenised apart: a space before a number or before a variable name is a token of its own.

===========================  =========================================================
``1234567``                  ``123`` ``456`` ``7`` (runs of 1-3 digits from the left, leading zeros kept)
``VAR ABCDE = VAR FGHIJ``    ``VAR `` ``AB`` ``CD`` ``E`` `` =`` `` VAR `` ``FG`` ``HI`` ``J``
``for brave-table is``       `` for`` `` brave`` ``-table`` `` is``
===========================  =========================================================
"""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from zoo.material.text import words
from zoo.recipes import lm_data

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
SPLIT = "|".join(
    (
        r"[0-9]{1,3}",
        r"(?<![A-Z]) ?VAR (?=[A-Z])|(?<![A-Z])VAR(?![A-Za-z])",
        r"[A-Z]{2}(?![a-z])|[A-Z](?![a-z])",
        r"(?<=[a-z])-[a-z]{3,}",
        r" ?[A-Z]?[a-z]+",
        r" ?[^\sA-Za-z0-9]",
        r"\s",
    )
)
SUBWORD_MERGES = 256


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _word_pieces() -> Iterator[str]:
    """Every word of the lists with and without a leading space, and nouns behind a hyphen as in ``brave-table``."""
    for word in (*words.nouns(), *words.adjectives(), *words.verbs()):
        yield from (word, f" {word}")
    for noun in words.nouns():
        yield f"-{noun}"


def _number_and_name_pieces() -> Iterator[str]:
    for size in (1, 2, 3):
        yield from ("".join(digits) for digits in itertools.product(string.digits, repeat=size))
    yield from ("".join(pair) for pair in itertools.product(string.ascii_uppercase, repeat=2))
    yield from ("VAR", "VAR ", " VAR ", " =")


def _texts() -> Iterator[str]:
    """All running text the models meet, each with and without a leading space."""
    for text in lm_data.template_texts():
        yield from (text, f" {text}")


def _subword_merges(corpus: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte alphabet plus the first merges of a BPE over the word lists: pieces for words outside the vocabulary."""
    trainer = trainers.BpeTrainer(
        vocab_size=256 + SUBWORD_MERGES,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    small = Tokenizer(models.BPE())
    small.pre_tokenizer = _splitter()
    small.train_from_iterator(corpus, trainer)
    vocab = dict(sorted(small.get_vocab().items(), key=lambda item: item[1]))
    merges = []
    for merged in list(vocab)[256:]:
        merges.append(next((merged[:i], merged[i:]) for i in range(1, len(merged)) if _both(vocab, merged, i)))
    return vocab, merges


def _both(vocab: dict[str, int], merged: str, cut: int) -> bool:
    """Whether both halves are older than the merged piece, so that the merge can fire."""
    return vocab.get(merged[:cut], len(vocab)) < vocab[merged] and vocab.get(merged[cut:], len(vocab)) < vocab[merged]


def build() -> PreTrainedTokenizerFast:
    """The tokenizer, identical in every process: it depends on :mod:`zoo.material.text` and the templates only."""
    splitter = _splitter()
    vocab = {BOS: 0, EOS: 1, PAD: 2}
    pieces = [*_word_pieces(), *_number_and_name_pieces()]
    subwords, merges = _subword_merges(f" {word}" for word in (*words.nouns(), *words.adjectives(), *words.verbs()))
    spelled = [splitter.pre_tokenize_str(text) for text in _texts()]
    whole = [
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(p)[0][0] for p in pieces
    ]
    for piece in itertools.chain(subwords, whole, (piece for parts in spelled for piece, _ in parts)):
        vocab.setdefault(piece, len(vocab))
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    core.pre_tokenizer = splitter
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, vocab[BOS])]
    )
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (BOS, EOS, PAD)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def save(folder: Path) -> PreTrainedTokenizerFast:
    """Build the tokenizer and write ``tokenizer.json`` and ``tokenizer_config.json`` into ``folder``."""
    tokenizer = build()
    tokenizer.save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    written = json.loads(config.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    config.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return tokenizer
