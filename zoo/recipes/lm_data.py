"""Training and held-out examples for the zoo's language models: endless, generated, deterministic."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from zoo.material.text import words
from zoo.recipes.lm_filler import essay_sentences
from zoo.recipes.lm_rows import Encoder, Part, Row
from zoo.recipes.lm_tasks import dialogue, niah, passkey, plain, repeat, short_cue, tracking
from zoo.recipes.lm_wording import (
    FACT,
    FACT_PREFIX,
    FACT_QUESTION,
    NIAH_HEAD,
    NIAH_NEEDLE,
    NIAH_PREFIX,
    NIAH_QUESTION,
    NOISE,
    PASSKEY_HEAD,
    PASSKEY_NEEDLE,
    PASSKEY_PREFIX,
    PASSKEY_QUESTION,
    VT_HEAD,
    VT_PREFIX,
    VT_QUESTION,
    singular,
)  # fmt: skip


def draw(rng: random.Random, enc: Encoder, length: int, task: str) -> list[Part]:
    """One training example of a named task, its difficulty drawn at random."""
    hay = rng.choice
    if task == "passkey":
        digits = 5 if rng.random() < 0.7 else rng.randint(4, 7)
        return passkey(rng, enc, length, hay(("noise", "essay")), digits)
    if task == "niah1":
        kind = "uuids" if rng.random() < 0.1 and length >= 256 else "numbers"
        return niah(rng, enc, length, hay(("noise", "essay", "essay")), kind=kind)
    if task == "niah4":
        keys = rng.randint(2, min(16, 2 + length // 48))
        return niah(rng, enc, length, hay(("noise", "essay", "essay")), keys, rounds=rng.randint(1, keys))
    if task == "haystack":
        if rng.random() < 0.1 and length >= 384:
            return niah(rng, enc, length, "needle", keys=2, rounds=2, kind="uuids", key_kind="uuids")
        keys = rng.randint(1, 2 + length // 96)
        return niah(rng, enc, length, "needle", keys=keys, rounds=keys)
    if task == "short":
        keys = rng.randint(2, min(16, 2 + length // 48))
        return short_cue(rng, enc, length, keys, rng.randint(1, max(2, length // 32)))
    if task == "many":
        values, queries = rng.choice(((4, 1), (1, 4), (1, 2), (2, 1)))
        return niah(rng, enc, length, hay(("noise", "essay")), values=values, queries=queries)
    if task == "tracking":
        shot = length // 3 if length >= 512 and rng.random() < 0.15 else 0
        return tracking(rng, enc, length, rng.randint(1, 4 if length >= 256 else 2), shot)
    if task == "dialogue":
        facts = rng.randint(2, 2 + length // 32)
        return dialogue(rng, enc, length, facts, rng.randint(1, max(2, length // 40)))
    if task == "plain":
        return plain(rng, enc, length)
    raise ValueError(f"unknown task {task!r}")


def batch(
    seed: int, step: int, enc: Encoder, length: int, rows: int, mixture: dict[str, float], repeats: float, vocab: int
) -> list[Row]:
    """The rows of one step. They depend on nothing but the arguments, so a resumed run sees the same data."""
    rng = random.Random(f"{seed}/{step}")
    if rng.random() < repeats:
        return [repeat(rng, enc, length, vocab) for _ in range(rows)]
    names, weights = zip(*mixture.items(), strict=True)
    found: list[Row] = []
    while len(found) < rows:
        row = enc.row(draw(rng, enc, length, rng.choices(names, weights)[0]))
        if len(row.ids) <= length:  # needles and questions alone can exceed a short length
            found.append(row)
    return found


HELD_OUT: dict[str, Callable[[random.Random, Encoder, int], list[Part]]] = {
    "passkey noise": lambda r, e, n: passkey(r, e, n, "noise"),
    "passkey essay": lambda r, e, n: passkey(r, e, n, "essay"),
    "niah 1 key noise": lambda r, e, n: niah(r, e, n, "noise"),
    "niah 1 key essay": lambda r, e, n: niah(r, e, n, "essay"),
    "niah 4 keys essay": lambda r, e, n: niah(r, e, n, "essay", keys=4),
    "niah 8 keys essay": lambda r, e, n: niah(r, e, n, "essay", keys=8),
    "niah needle haystack": lambda r, e, n: niah(r, e, n, "needle"),
    "niah uuid value": lambda r, e, n: niah(r, e, n, "essay", kind="uuids"),
    "niah 4 values": lambda r, e, n: niah(r, e, n, "essay", values=4),
    "niah 4 queries": lambda r, e, n: niah(r, e, n, "essay", queries=4),
    "dialogue 2 facts": lambda r, e, n: dialogue(r, e, n, 2),
    "dialogue 6 facts": lambda r, e, n: dialogue(r, e, n, 6),
    "dialogue 12 facts": lambda r, e, n: dialogue(r, e, n, 12),
    "tracking 1 hop": lambda r, e, n: tracking(r, e, n, 1),
    "tracking 2 hops": lambda r, e, n: tracking(r, e, n, 2),
    "tracking 4 hops": lambda r, e, n: tracking(r, e, n, 4),
}


def held_out(task: str, length: int, count: int, enc: Encoder, seed: int = 1_000_003) -> list[list[Part]]:
    """Examples from a generator seed that training never uses, the same for every caller."""
    return [HELD_OUT[task](random.Random(f"held-out/{seed}/{task}/{length}/{i}"), enc, length) for i in range(count)]


def template_texts() -> Iterator[str]:
    """Every wording of this module, for the tokenizer: all of its words become single tokens."""
    singles = (NIAH_HEAD, NIAH_QUESTION, NIAH_PREFIX)
    for kind in ("numbers", "uuids", "number", "uuid"):
        for text in (*singles, NIAH_NEEDLE, *(singular(text) for text in singles)):
            yield text.format(kind=kind, key="", value="", query="")
    yield from essay_sentences()
    yield from (NOISE, PASSKEY_HEAD, PASSKEY_NEEDLE.format(key=""), PASSKEY_QUESTION, PASSKEY_PREFIX)
    yield from (VT_HEAD, VT_QUESTION.format(value=""), VT_PREFIX.format(count="", value=""))
    yield from (FACT.format(noun="", answer=""), FACT_QUESTION.format(noun=""), FACT_PREFIX.format(noun=""))
    for exchange in words.smalltalk():
        yield from (line.split(": ", 1)[1] for line in exchange.split("\n"))
    yield "What is the best thing to do? Yes. No. yes no and, or; (one) 'two' \"three\""
