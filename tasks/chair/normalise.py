"""Three ways from a caption to normalised tokens. Numbers of different ones do not compare."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tasks.chair.builtin import builtin
from tasks.chair.lemma import with_nltk
from tasks.chair.singular import by_rules
from tasks.chair.vocabulary import Vocabulary

NORMALISERS = ("builtin", "lemma", "singular")


@lru_cache(maxsize=8)
def normaliser(name: str, vocabulary: Vocabulary, count_men: bool = False) -> Callable[[str], list[str]]:
    """The function from a caption to its normalised tokens, in lower case."""
    if name == "lemma":
        return with_nltk()
    return by_rules() if name == "singular" else builtin(vocabulary.units, count_men)
