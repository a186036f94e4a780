"""What the language models of the zoo are taught: one function for each kind of example, deterministic given its generator.

An example is a list of parts, text in reading order. `context` is never learned, `prefix` is the part of a question that repeats
what was asked, `answer` is what has to be retrieved. Every function takes a length in tokens and fills the context up to it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import pairwise

from zoo.material.text import words
from zoo.recipes.lm_filler import (
    Haystack,
    distinct,
    essay_sentences,
    fill,
    learned_sentences,
    new_key,
    new_value,
    sentences,
    word_key,
)  # fmt: skip
from zoo.recipes.lm_rows import Encoder, Part, Row, cost
from zoo.recipes.lm_wording import (
    FACT,
    FACT_PREFIX,
    FACT_QUESTION,
    NIAH_CUE,
    NIAH_HEAD,
    NIAH_NEEDLE,
    NIAH_PREFIX,
    NIAH_QUESTION,
    PASSKEY_HEAD,
    PASSKEY_NEEDLE,
    PASSKEY_PREFIX,
    PASSKEY_QUESTION,
    VT_HEAD,
    VT_PREFIX,
    VT_QUESTION,
    listed,
    singular,
)  # fmt: skip


def passkey(rng: random.Random, enc: Encoder, length: int, haystack: Haystack = "noise", digits: int = 5) -> list[Part]:
    """Landmark's passkey with whole filler sentences on either side; an empty side loses its line."""
    key = str(rng.randint(10 ** (digits - 1), 10**digits - 1))
    ask = [Part(PASSKEY_QUESTION), Part(PASSKEY_PREFIX, "prefix"), Part(f" {key}.", "answer")]
    needle = PASSKEY_NEEDLE.format(key=key)
    room = length - cost(enc, [Part(PASSKEY_HEAD + "\n"), Part("\n" + needle + "\n"), *ask]) - 1
    filler = fill(rng, enc, (), sentences(rng, haystack), " ", room)
    pieces = re.split(r"(?<=[.?!]) ", filler) if filler else []
    cut = rng.randint(0, len(pieces))
    lines = [PASSKEY_HEAD, " ".join(pieces[:cut]), needle, " ".join(pieces[cut:])]
    return [Part("\n".join(line for line in lines if line) + "\n"), *ask]


def niah(
    rng: random.Random,
    enc: Encoder,
    length: int,
    haystack: Haystack = "essay",
    keys: int = 1,
    values: int = 1,
    queries: int = 1,
    rounds: int = 1,
    kind: str = "numbers",
    key_kind: str = "words",
) -> list[Part]:
    """RULER's needle task. ``rounds`` > 1 asks again for other keys, which multiplies the signal per token."""
    names = distinct(rng, lambda r: new_key(r, key_kind), max(keys, queries))
    table = {key: [new_value(rng, kind) for _ in range(values)] for key in names}
    pairs = [(key, value) for key in table for value in table[key]]
    needles = [NIAH_NEEDLE.format(kind=kind, key=key, value=value) for key, value in pairs]
    order = list(range(len(needles)))
    rng.shuffle(order)
    asked = rng.sample(list(table), queries if queries > 1 else min(rounds, len(table)))
    groups = [asked] if queries > 1 else [[key] for key in asked]
    style = singular if values * queries == 1 else str
    name = kind[:-1] if values * queries == 1 else kind
    head = style(NIAH_HEAD).format(kind=name)
    seen = {key: [pairs[i][1] for i in order if pairs[i][0] == key] for key in table}  # as they stand in the text
    ask: list[Part] = []
    for group in groups:
        found = [value for key in group for value in seen[key]]
        ask.append(Part("\n" + style(NIAH_QUESTION).format(kind=name, query=listed(group))))
        ask.append(Part(style(NIAH_PREFIX).format(kind=name, query=listed(group)), "prefix"))
        ask.append(Part(f" {listed(found)}.", "answer"))
    stream = sentences(rng, haystack, kind, key_kind)
    room = length - cost(enc, [Part(head + "\n"), *ask])
    joiner = " " if haystack == "essay" else "\n"
    return [Part(head + "\n" + fill(rng, enc, [needles[i] for i in order], stream, joiner, room)), *ask]


def short_cue(rng: random.Random, enc: Encoder, length: int, keys: int = 4, rounds: int = 4) -> list[Part]:
    """Needles without a header and many short questions: the cue grows from nothing to RULER's five words."""
    table = {key: new_value(rng) for key in distinct(rng, word_key, keys)}
    needles = [NIAH_NEEDLE.format(kind="numbers", key=key, value=value) for key, value in table.items()]
    rng.shuffle(needles)
    ask: list[Part] = []
    for _ in range(rounds):
        key = rng.choice(list(table))
        if rng.random() < 0.15:
            cue = f"\nOne of the special magic numbers for {key} is:"
        else:
            cue = " ".join((f"\nThe special magic number for {key}", *NIAH_CUE[: rng.randint(0, 5)], "is"))
        ask += [Part(cue), Part(f" {table[key]}.", "answer")]
    haystack: Haystack = rng.choice(("noise", "essay"))
    joiner = " " if haystack == "essay" else "\n"
    return [Part(fill(rng, enc, needles, sentences(rng, haystack), joiner, length - cost(enc, ask))), *ask]


def tracking(rng: random.Random, enc: Encoder, length: int, hops: int = 4, shot: int = 0) -> list[Part]:
    """RULER's variable tracking, one chain. ``shot`` > 0 puts a solved example of that many tokens before it."""
    before: list[Part] = []
    if shot:
        head, ask, answer = _chain(rng, enc, shot, hops, 3, "12345")
        before = [head, Part(ask.text), Part(answer.text + "\n\n")]
        length -= cost(enc, before)
    return [*before, *_chain(rng, enc, length, hops, 5, str(rng.randint(10_000, 99_998)))]


def _chain(rng: random.Random, enc: Encoder, length: int, hops: int, letters: int, value: str) -> list[Part]:
    names = distinct(rng, lambda r: "".join(r.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=letters)), hops + 1)
    lines = [f"VAR {names[0]} = {value}", *(f"VAR {b} = VAR {a} " for a, b in pairwise(names))]
    question = Part("\n" + VT_QUESTION.format(value=value))
    prefix = Part(VT_PREFIX.format(count=hops + 1, value=value), "prefix")
    answer = Part(" ".join(names), "answer")
    room = length - cost(enc, [Part(VT_HEAD + "\n"), question, prefix, answer])
    context = VT_HEAD + "\n" + fill(rng, enc, lines, sentences(rng, "noise"), "\n", room)
    return [Part(context + question.text), prefix, answer]


def dialogue(rng: random.Random, enc: Encoder, length: int, facts: int = 4, rounds: int = 1) -> list[Part]:
    """Facts told by the user, small talk between, then ``rounds`` questions; each earlier answer stays in view."""
    nouns = rng.sample(words.nouns(), facts)
    pool = words.adjectives() + words.nouns()
    table = {noun: rng.choice(pool) for noun in nouns}
    ask: list[Part] = []
    for noun in rng.sample(nouns, min(rounds, facts)):
        ask.append(Part("\n" + FACT_QUESTION.format(noun=noun)))
        ask.append(Part(FACT_PREFIX.format(noun=noun), "prefix"))
        ask.append(Part(f" {table[noun]}.", "answer"))
    told = [FACT.format(noun=noun, answer=answer) for noun, answer in table.items()]
    return [Part(fill(rng, enc, told, _talk(rng), "\n", length - cost(enc, ask))), *ask]


def _talk(rng: random.Random) -> Iterator[str]:
    while True:
        yield rng.choice(words.smalltalk())


def plain(rng: random.Random, enc: Encoder, length: int) -> list[Part]:
    """A window of the learned part of the essays, all of it to be predicted."""
    text = essay_sentences()[: learned_sentences()]
    at, taken, used = rng.randrange(len(text) - 8), [], 4
    for sentence in text[at:]:
        used += enc.count(" " + sentence)
        if used > length:
            break
        taken.append(sentence)
    return [Part(" ".join(taken), "prefix")]


def repeat(rng: random.Random, enc: Encoder, length: int, vocab: int) -> Row:
    """A random segment of the whole vocabulary, repeated to the end; only the repetition is learned."""
    size = rng.randint(10, max(11, length // 2))
    segment = [rng.randrange(3, vocab) for _ in range(size)]
    ids = [enc.bos, *(segment * (length // size + 1))][:length]
    return Row(ids, [0.0 if i <= size else 1.0 for i in range(len(ids))])
