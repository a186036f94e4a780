"""Where words, keys and values come from: the built-in lists or the lists of the `wonderwords` package."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

from harness.errors import UserError
from zoo.material.text import words as builtin

LISTS = ("nounlist.txt", "adjectivelist.txt", "verblist.txt")  # inside wonderwords/assets


@dataclass(frozen=True)
class Words:
    """Nouns, adjectives and verbs under a name such as `builtin#0123456789abcdef`."""

    name: str
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    verbs: tuple[str, ...]

    def pool(self) -> list[str]:
        """All words, sorted, without duplicates: what the common-words task draws from."""
        return sorted({*self.nouns, *self.adjectives, *self.verbs})


def load_words(source: str) -> Words:
    """`builtin` or `wonderwords`; a missing package is a `UserError` that names it."""
    if source == "builtin":
        lists = (builtin.nouns(), builtin.adjectives(), builtin.verbs())
        return Words(f"builtin#{builtin.digest(*lists)}", *lists)
    nouns, adjectives, verbs = (_read_lines(path) for path in wonderwords_files())
    name = f"wonderwords-{metadata.version('wonderwords')}#{builtin.digest(nouns, adjectives, verbs)}"
    return Words(name, nouns, adjectives, verbs)


def wonderwords_files() -> tuple[Path, ...]:
    """The three lists of the installed `wonderwords` package (read as files; the package itself is not imported)."""
    found = find_spec("wonderwords")
    if found is None or found.origin is None:
        raise UserError(
            "ruler: the word lists of the reference are those of the Python package wonderwords, which is not "
            "installed. Run pip install wonderwords==3.0.1, or set task.ruler.words=builtin: then prompts differ from "
            "the reference's."
        )
    return tuple(Path(found.origin).parent / "assets" / name for name in LISTS)


def _read_lines(path: Path) -> tuple[str, ...]:
    with path.open(encoding="utf-8") as lines:
        return tuple(line.rstrip() for line in lines)


class KeyPool(Sequence[str]):
    """The sorted set of every `adjective-noun`, without building its millions of strings.

    Strings of one adjective stand together unless another adjective continues it (`old` and `old-time`), because then
    nouns of the first can sort between strings of the second. Such families are built in full, all others are computed.
    """

    def __init__(self, words: Words) -> None:
        self._nouns = sorted(set(words.nouns))
        self._families = self._group(sorted({f"{adjective}-" for adjective in words.adjectives}))
        self._ends = list(
            accumulate(len(family) if isinstance(family, list) else len(self._nouns) for family in self._families)
        )

    def _group(self, stems: list[str]) -> list[str | list[str]]:
        grouped: list[list[str]] = []
        for stem in stems:
            if grouped and stem.startswith(grouped[-1][0]):
                grouped[-1].append(stem)
            else:
                grouped.append([stem])
        return [family[0] if len(family) == 1 else self._spell_out(family) for family in grouped]

    def _spell_out(self, family: list[str]) -> list[str]:
        return sorted({stem + noun for stem in family for noun in self._nouns})

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = bisect_right(self._ends, index)
        family = self._families[place]
        offset = index - (self._ends[place - 1] if place else 0)
        return family[offset] if isinstance(family, list) else family + self._nouns[offset]


@lru_cache(maxsize=4)
def key_pool(words: Words) -> KeyPool:
    """The key pool of a word list, built once."""
    return KeyPool(words)
