"""Word lists, an essay and files that never change, so that the fingerprints of the strict mode can be fixed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import tasks.ruler
from tasks.ruler.pools import Words

DATA = Path(tasks.ruler.__file__).parent / "data"
FILES = {"squad_path": str(DATA / "squad.json"), "hotpot_path": str(DATA / "hotpot.json")}

WORDS = Words(
    "fixed",
    nouns=tuple(f"noun{i}" for i in range(5000)),
    adjectives=("old", "old-time", "red", "redder", "big blue", *(f"adj{i}" for i in range(35))),
    verbs=tuple(f"verb{i}" for i in range(100)),
)


def essay() -> str:
    """Plain sentences of 4 to 12 words, with a line break now and then."""
    rng = Random(7)
    sentences = (" ".join(f"w{rng.randrange(300)}" for _ in range(rng.randint(4, 12))) for _ in range(400))
    return "\n".join(f"{sentence.capitalize()}." for sentence in sentences)
