"""The four prompt layouts. Whitespace is part of the benchmark.

Every published text ends with the first words of its answer. They are kept apart from the question (`ANSWER`), because a
chat template must put them behind the assistant's header: in the user's turn they would be a question broken off, which
a chat model answers with a sentence of its own. Without a template both are one text, the published one.

* landmark: arXiv 2305.16300, epfml/landmark-attention `llama/run_test.py`.
* longlora: arXiv 2309.12307, dvlab-research/LongLoRA `passkey_retrivial.py`; the same text, other random numbers.
* infinitebench: arXiv 2402.13718, OpenBMB/InfiniteBench `data/construct_synthetic_dataset.py` and `src/prompt.py`
  (the template for models that continue a text).
* grid: ours, landmark's lines with whole sentences and a chosen depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from harness.contracts.tokens import Tokens
from zoo.material.text.fit import largest_fit

HEAD = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there."
)
NEEDLE = "The pass key is {key}. Remember it. {key} is the pass key."
QUESTION = "What is the pass key?"
ANSWER = " The pass key is"
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

INFINITE_HEAD = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information."
)
INFINITE_ANSWER = "\n\nThe pass key is"
# filler lines -> distance of the needle positions in the published files (8K, 16K, 32K, 64K, 128K, 256K tokens)
INFINITE_STEPS = {326: 6, 652: 12, 1305: 22, 2610: 45, 5220: 90, 10440: 180}

LONGLORA_INTERVAL = 1000  # tokens per step
LONGLORA_CHARACTERS = 3.75  # per token, as the reference estimates


@dataclass(frozen=True)
class Prompt:
    """A prompt that ends with the question, its key, the share of the filler (0..100) that stands before the needle, and
    the first words of the answer."""

    text: str
    key: str
    true_depth: float
    answer: str = ANSWER


def share(before: int, total: int) -> float:
    """Percent, 0 for nothing at all."""
    return round(100 * before / total, 2) if total else 0.0


def noise_characters(count: int) -> str:
    """The first `count` characters of the noise sentence, repeated with single spaces."""
    return (f"{NOISE} " * (count // (len(NOISE) + 1) + 1))[:count]


def by_characters(before: int, total: int, key: int) -> Prompt:
    """Landmark's five lines. The filler restarts behind the needle, and cuts fall inside words."""
    needle = NEEDLE.format(key=key)
    lines = [HEAD, noise_characters(before), needle, noise_characters(total - before), QUESTION]
    return Prompt("\n".join(lines), str(key), share(before, total))


def landmark(rng: Random, characters: int) -> Prompt:
    """Position, then key, drawn from Python's generator: keys 1 to 50000, both ends included."""
    before = rng.randint(0, characters)
    return by_characters(before, characters, rng.randint(1, 50000))


def longlora_characters(step: int) -> int:
    """Filler characters of LongLoRA's length number `step` (1..32): whole blocks of 1024."""
    return int(LONGLORA_CHARACTERS * step * LONGLORA_INTERVAL // 1024 * 1024)


def longlora(seed: int, step: int) -> Prompt:
    """The same text from numpy's legacy generator, re-seeded for every prompt: upper ends are excluded."""
    from numpy.random import RandomState

    state = RandomState(seed)
    total = longlora_characters(step)
    before = int(state.randint(0, total))
    return by_characters(before, total, int(state.randint(1, 50000)))


def infinitebench_positions(lines: int) -> list[int]:
    """Needle positions, stepped evenly over the filler lines: 59 of them for the published 128K file."""
    return list(range(0, lines + 1, INFINITE_STEPS.get(lines, max(1, round(lines / 58)))))


def infinitebench_text(context: str, question: str = QUESTION) -> str:
    """The prompt around a context of the official file, up to the question."""
    return f"{INFINITE_HEAD}\n\n{context}\n\n{question}"


def infinitebench_context(text: str) -> str:
    """Inverse of :func:`infinitebench_text` for the usual question."""
    return text.removeprefix(f"{INFINITE_HEAD}\n\n").removesuffix(f"\n\n{QUESTION}")


def infinitebench(rng: Random, lines: int, position: int, digits: int) -> Prompt:
    """One noise sentence per line, the needle as a line of its own; the key may begin with zeros."""
    key = "".join(str(rng.randint(0, 9)) for _ in range(digits))
    line = f"{NOISE}\n"
    context = line * position + NEEDLE.format(key=key) + "\n" + line * (lines - position)
    return Prompt(infinitebench_text(context), key, share(position, lines), INFINITE_ANSWER)


def sentences(text: str) -> tuple[str, ...]:
    """Sentences of a text, white space collapsed to single blanks."""
    return tuple(s for s in re.split(r"(?<=[.?!]) ", " ".join(text.split())) if s)


def split_at(count: int, depth: float) -> int:
    """How many of `count` sentences stand before a needle at `depth` percent, rounded to the nearest boundary."""
    return int(count * depth / 100 + 0.5)


def grid(key: str, filler: tuple[str, ...], count: int, depth: float) -> tuple[str, str, str]:
    """The prompt with `count` filler sentences (the list starts over when it ends), and its filler before and after.

    An empty side loses its line.
    """
    cut = split_at(count, depth)
    chosen = [filler[i % len(filler)] for i in range(count)]
    before, after = " ".join(chosen[:cut]), " ".join(chosen[cut:])
    lines = [HEAD, before, NEEDLE.format(key=key), after, QUESTION]
    return "\n".join(line for line in lines if line), before, after


def fitted(
    tokens: Tokens, key: str, filler: tuple[str, ...], per_sentence: float, length: int, depth: float
) -> Prompt | int:
    """The longest `grid` prompt of whole filler sentences (of `per_sentence` tokens, about) that is at most `length` tokens,
    the question included. Where none is, the tokens of the one without filler.
    """

    def cost(count: int) -> int:
        return len(tokens.prompt_ids(grid(key, filler, count, depth)[0], ANSWER))

    least = cost(0)
    count = largest_fit(cost, length, guess=int((length - least) / per_sentence))
    if count is None:
        return least
    text, before, after = grid(key, filler, count, depth)
    ahead = tokens.count(before)
    return Prompt(text, key, share(ahead, ahead + tokens.count(after)))
