"""The words that CHAIR knows: 80 COCO categories with their synonyms, and the pairs of words that count as one.

Source: LisaAnne/Hallucination `data/synonyms.txt` and `utils/chair.py` (arXiv 1809.02156; BSD-2-Clause by its README). The list is a
constant of the benchmark, its spelling errors and its entries that can never match included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from harness.disk.reading import decoded, read_bytes
from harness.errors import UserError

BUILTIN = Path(__file__).parent / "data" / "synonyms.txt"

ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
VEHICLES = ("jet", "train")
PAIRS = (
    "motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal", "stop light",
    "fire hydrant", "stop sign", "parking meter", "suit case", "sports ball", "baseball bat", "baseball glove",
    "tennis racket", "wine glass", "hot dog", "cell phone", "mobile phone", "teddy bear", "hair drier", "potted plant",
    "laptop computer", "home plate", "train track",
)  # fmt: skip
# Two words -> the one that they become. The reference also lists "stove top oven": three words, so it never matches.
DOUBLES: Mapping[str, str] = {
    **{pair: pair for pair in PAIRS},
    **{f"{age} {animal}": animal for animal in ANIMALS for age in ("baby", "adult")},
    **{f"passenger {vehicle}": vehicle for vehicle in VEHICLES},
    "bow tie": "tie",
    "toilet seat": "toilet",
    "wine glas": "wine glass",
}


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """`nodes`: word -> the category that it stands for (itself for a category name)."""

    nodes: Mapping[str, str]
    sha256: str

    @cached_property
    def units(self) -> frozenset[str]:
        """Single tokens that can matter: words of the list and parts of doubles."""
        parts = {part for double in DOUBLES for part in double.split(" ")}
        return frozenset(word for word in self.nodes if " " not in word) | parts


def read(path: str | None = None) -> Vocabulary:
    """The built-in list, or a file of the same format: one row per line, words separated by comma and space, the category first.

    As in the reference, a line is stripped and its words are not, and a word that stands in two rows belongs to the later one.
    """
    file = BUILTIN if path is None else Path(path)
    return _parsed(read_bytes(file, "file of chair.synonyms"), str(file))


@lru_cache(maxsize=8)
def _parsed(data: bytes, where: str) -> Vocabulary:
    lines = decoded(data, f"chair.synonyms {where}").splitlines()
    rows = [line.strip().split(", ") for line in lines if line.strip()]
    if not rows:
        raise UserError(f"chair.synonyms {where} is empty: one category per line is needed, its synonyms after it.")
    return Vocabulary({word: row[0] for row in rows for word in row}, hashlib.sha256(data).hexdigest())
