"""The normaliser of the Python 3 descendant of CHAIR (OPERA, PAI, VISTA, CCA): tagged and lemmatised with NLTK.

Tokens come from `word_tokenize`, tags from `pos_tag`; tags in J, V, N, R become WordNet's parts of speech, all others count as nouns
(shikiw/OPERA `chair.py`). Results depend on the versions of NLTK and of its data, so both enter the identity of a result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import UserError

DATA = {
    "punkt_tab": "tokenizers/punkt_tab",
    "averaged_perceptron_tagger_eng": "taggers/averaged_perceptron_tagger_eng",
    "wordnet": "corpora/wordnet",
}
PARTS = {"J": "a", "V": "v", "N": "n", "R": "r"}  # first letter of a tag -> WordNet's part of speech


def lemmas(
    tokenize: Callable[[str], Sequence[str]],
    tag: Callable[[Sequence[str]], Sequence[tuple[str, str]]],
    lemmatize: Callable[[str, str], str],
) -> Callable[[str], list[str]]:
    """The function from a caption to its lemmas, made of a tokeniser, a tagger and a lemmatiser."""

    def normalise(caption: str) -> list[str]:
        tagged = tag(tokenize(caption.lower()))
        return [lemmatize(token, PARTS.get(name[:1], "n")) for token, name in tagged]

    return normalise


def with_nltk() -> Callable[[str], list[str]]:
    """NLTK's own three parts."""
    check()
    import nltk
    from nltk.stem import WordNetLemmatizer

    return lemmas(nltk.word_tokenize, nltk.pos_tag, WordNetLemmatizer().lemmatize)


def check() -> None:
    """Raise one `UserError` that names everything that is missing."""
    ways = "Or use task.chair.normaliser=builtin, which needs nothing."
    try:
        import nltk  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"chair.normaliser lemma needs the package nltk: `pip install 'heed[nltk]'`, then "
            f"`python -m nltk.downloader {' '.join(DATA)}`. {ways}"
        ) from error
    if missing := [name for name, where in DATA.items() if _find(where) is None]:
        names = " ".join(missing)
        raise UserError(
            f"chair.normaliser lemma needs NLTK data that is not installed: {names}. Install it once with "
            f"`python -m nltk.downloader {names}` (on a machine with a network; NLTK_DATA names the folder). {ways}"
        )


def provenance() -> dict[str, str]:
    """NLTK's version and one sha256 over the files of the data (zipped and unpacked ones count as different)."""
    import nltk

    return {"nltk": nltk.__version__, "nltk_data": _digest(tuple(str(_find(where)) for where in DATA.values()))}


def _find(where: str) -> Any:
    """The zip file or the folder of a data package; None if neither is there."""
    import nltk

    for name in (f"{where}.zip", where):
        try:
            return nltk.data.find(name)
        except LookupError:
            continue
    return None


@lru_cache(maxsize=4)
def _digest(places: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for place in map(Path, places):
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file():
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
