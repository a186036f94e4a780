"""Essays as haystacks: words, sentences, and where needles go between them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from harness.disk.reading import read_object, read_text
from harness.errors import UserError
from zoo.material.text import words as builtin

ESSAY = "file of ruler.essay_path"
Splitter = Callable[[str], list[str]]

# round(linspace(0, 100, 40)): the only depths, in percent, at which the essay haystack hides a needle
DEPTHS = (
    0, 3, 5, 8, 10, 13, 15, 18, 21, 23, 26, 28, 31, 33, 36, 38, 41, 44, 46, 49,
    51, 54, 56, 59, 62, 64, 67, 69, 72, 74, 77, 79, 82, 85, 87, 90, 92, 95, 97, 100,
)  # fmt: skip

_SENTENCE_END = re.compile(r"[.!?]+[\"')\]\u2019\u201d]*\s+(?=[\"'(\[\u2018\u201c]?[A-Z0-9])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|vol|fig|jr|sr|inc|co)|\b[A-Z])\.$", re.IGNORECASE
)
_PUNKT = ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab")


def split_rules(text: str) -> list[str]:
    """Sentences of a text: a break follows `.`, `!` or `?` (and closing marks) before a capital or digit, but not after
    common abbreviations and single initials. Joining the result with single spaces gives back a whitespace-collapsed
    text."""
    sentences, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        head = text[start : match.end()].rstrip()
        if not _ABBREVIATION.search(head):
            sentences.append(head)
            start = match.end()
    tail = text[start:].strip()
    return [*sentences, tail] if tail else sentences


def punkt_files() -> tuple[Path, ...]:
    """The data files of NLTK's English sentence splitter; empty if NLTK or its data are not installed."""
    try:
        from nltk.data import find
    except ImportError:
        return ()
    try:
        return tuple(Path(str(find(f"tokenizers/punkt_tab/english/{name}"))) for name in _PUNKT)
    except LookupError:
        return ()


def strict_splitter() -> tuple[str, Splitter]:
    """(name, splitter) nearest to the reference: NLTK's punkt where it is installed with its data, else our rules."""
    if not punkt_files():
        return "rules", split_rules
    from nltk.tokenize import sent_tokenize

    return "punkt", sent_tokenize


@dataclass(frozen=True)
class Essay:
    """A haystack text under a name such as `builtin-essay#0123456789abcdef`."""

    name: str
    words: tuple[str, ...]

    def first(self, n: int) -> list[str]:
        """The first `n` of `words`, the whole text repeated as often as needed."""
        full, rest = divmod(n, len(self.words))
        return list(self.words) * full + list(self.words[:rest])

    @cached_property
    def body(self) -> tuple[str, ...]:
        """The words without the empty strings that outer white space leaves in `words`."""
        return tuple(word for word in self.words if word)

    @cached_property
    def sentences(self) -> list[str]:
        """Sentences of one round of the text by our rules."""
        return split_rules(" ".join(self.body))

    @cached_property
    def sentence_ends(self) -> list[int]:
        """Number of words up to the end of each sentence."""
        ends, total = [], 0
        for sentence in self.sentences:
            total += sentence.count(" ") + 1
            ends.append(total)
        return ends

    def first_sentences(self, n: int) -> list[str]:
        """The first `n` words of `body` as sentences, the last one possibly cut; splits nothing anew."""
        full, rest = divmod(n, len(self.body))
        whole = bisect_left(self.sentence_ends, rest + 1)
        used = self.sentence_ends[whole - 1] if whole else 0
        cut = [" ".join(self.body[used:rest])] if rest > used else []
        return self.sentences * full + self.sentences[:whole] + cut


def load_essay(path: str | None) -> Essay:
    """The built-in essays, a `.txt` file, or a `.json` file with the text under `text` (the layout of the
    reference)."""
    if path is None:
        return _essay("builtin-essay", builtin.essay())
    file = Path(path)
    text = read_object(file, ESSAY).text("text") if file.suffix == ".json" else read_text(file, ESSAY)
    if not text.strip():
        raise UserError(
            f"ruler: essay_path {path} holds no words; give a text file, or leave it empty for the built-in essays."
        )
    return _essay(file.name, text)


def _essay(name: str, text: str) -> Essay:
    return Essay(f"{name}#{builtin.digest(text)}", tuple(re.sub(r"\s+", " ", text).split(" ")))


def insert_at_depths(sentences: Sequence[str], needles: Sequence[str], depths: Sequence[int]) -> str:
    """Needles, in order, at sorted sentence positions int(n * depth / 100); all parts joined by one space.

    Two needles at one position, or one at either end, leave an empty part and so a double or outer space: the
    reference does so.
    """
    positions = sorted(int(len(sentences) * (depth / 100)) for depth in depths)
    bounds = [0, *positions, len(sentences)]
    parts: list[str] = []
    for i, (start, stop) in enumerate(pairwise(bounds)):
        parts.append(" ".join(sentences[start:stop]))
        if i < len(needles):
            parts.append(needles[i])
    return " ".join(parts)


def insert_at_indexes(sentences: Sequence[str], needles: Sequence[str], indexes: Sequence[int]) -> str:
    """Needle i is inserted at the i-th of the descending `indexes`; lines joined by newlines."""
    lines = list(sentences)
    for index, needle in zip(indexes, needles, strict=True):
        lines.insert(index, needle)
    return "\n".join(lines)
