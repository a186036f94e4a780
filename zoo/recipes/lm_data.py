"""Training and held-out examples for the zoo's language models: endless, generated, deterministic.

An example is a list of :class:`Part`, text in reading order. ``context`` is never learned, ``prefix`` is the part of a
question that repeats what was asked, ``answer`` is what has to be retrieved. The wording is the wording of the
benchmarks themselves: passkey after landmark attention (arXiv 2305.16300), needles and variable tracking after RULER
(arXiv 2404.06654). ``dialogue`` and ``repeat`` are our own.

Every generator takes a length in tokens and fills the context up to it: whole filler sentences, needles at uniformly
drawn sentence boundaries. Text is tokenised piece by piece, which is the same as tokenising the whole: the tokenizer
cuts at every newline, and between a full stop and the space behind it.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

from zoo.material.text import words

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
PASSKEY_HEAD = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there."
)
PASSKEY_NEEDLE = "The pass key is {key}. Remember it. {key} is the pass key."
PASSKEY_QUESTION = "What is the pass key?"
PASSKEY_PREFIX = " The pass key is"
NIAH_HEAD = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards."
)
NIAH_NEEDLE = "One of the special magic {kind} for {key} is: {value}."
NIAH_QUESTION = "What are all the special magic {kind} for {query} mentioned in the provided text?"
NIAH_PREFIX = " The special magic {kind} for {query} mentioned in the provided text are"
NIAH_CUE = ("mentioned", "in", "the", "provided", "text")
VT_HEAD = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n"
VT_QUESTION = "Question: Find all variables that are assigned the value {value} in the text above."
VT_PREFIX = (
    " Answer: According to the chain(s) of variable assignment in the text above, "
    "{count} variables are assigned the value {value}, they are: "
)
FACT = "User: My favorite {noun} is {answer}.\nAssistant: OK. Thank you, I will remember that."
FACT_QUESTION = "User: What is my favorite {noun}?\nAssistant:"
FACT_PREFIX = " Your favorite {noun} is"

VALIDATION_SHARE = 0.15  # the last part of the essays is never learned as text, see :func:`plain`
Kind = Literal["context", "prefix", "answer"]
Haystack = Literal["noise", "essay", "needle"]


@dataclass(frozen=True)
class Part:
    """A stretch of text and the role it plays in the loss."""

    text: str
    kind: Kind = "context"


@dataclass(frozen=True)
class Row:
    """Token ids with one loss weight per token (the weight of *predicting* that token)."""

    ids: list[int]
    weights: list[float]


@dataclass
class Encoder:
    """Tokenises piece by piece with a memory, because filler sentences come back all the time."""

    tokenizer: Any
    prefix_weight: float = 0.3
    first_weight: float = 3.0
    rest_weight: float = 1.0
    _memory: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bos, self.eos, self.pad = (getattr(self.tokenizer, f"{n}_token_id") for n in ("bos", "eos", "pad"))
        self.space = self.encode(" ")[0]

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids without the start token."""
        known = self._memory.get(text)
        if known is None:
            known = tuple(self.tokenizer.encode(text, add_special_tokens=False))
            if len(self._memory) < 50_000:
                self._memory[text] = known
        return known

    def count(self, text: str) -> int:
        return len(self.encode(text))

    def row(self, parts: Sequence[Part]) -> Row:
        """Start token, all parts, end token. The first chunk of every answer word carries the matching signal."""
        ids, weights = [self.bos], [0.0]
        for part in parts:
            for token in self.encode(part.text):
                fresh = part.kind == "answer" and (ids[-1] == self.space or weights[-1] in (0.0, self.prefix_weight))
                weight = {"context": 0.0, "prefix": self.prefix_weight, "answer": self.rest_weight}[part.kind]
                if part.kind == "answer" and token == self.space:
                    weight = self.prefix_weight
                ids.append(token)
                weights.append(self.first_weight if fresh and token != self.space else weight)
        return Row([*ids, self.eos], [*weights, self.rest_weight if parts[-1].kind == "answer" else 0.0])


# ---------------------------------------------------------------------------------------------------- filler and keys


@lru_cache(maxsize=1)
def essay_sentences() -> tuple[str, ...]:
    """The essays, one sentence per entry, whitespace collapsed."""
    return tuple(re.split(r"(?<=[.?!]) ", " ".join(words.essay().split())))


def learned_sentences() -> int:
    """How many of the essay sentences may be learned as text; the rest is for validation."""
    return int(len(essay_sentences()) * (1 - VALIDATION_SHARE))


def sentences(rng: random.Random, haystack: Haystack, kind: str = "numbers", key_kind: str = "words") -> Iterator[str]:
    """An endless stream of filler sentences; in a needle haystack each is a needle with a fresh key and value."""
    if haystack == "essay":
        text, at = essay_sentences(), rng.randrange(len(essay_sentences()))
        while True:
            yield text[at % len(text)]
            at += 1
    while haystack == "noise":
        yield NOISE
    while True:
        yield NIAH_NEEDLE.format(kind=kind, key=new_key(rng, key_kind), value=new_value(rng, kind))


def word_key(rng: random.Random) -> str:
    return f"{rng.choice(words.adjectives())}-{rng.choice(words.nouns())}"


def new_key(rng: random.Random, key_kind: str = "words") -> str:
    return word_key(rng) if key_kind == "words" else new_uuid(rng)


def new_uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def new_value(rng: random.Random, kind: str = "numbers") -> str:
    return str(rng.randint(1_000_000, 9_999_999)) if kind == "numbers" else new_uuid(rng)


def distinct(rng: random.Random, draw: Callable[[random.Random], str], count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(draw(rng))
    return list(found)


def fill(
    rng: random.Random, enc: Encoder, needles: Sequence[str], stream: Iterator[str], joiner: str, room: int
) -> str:
    """Needles, in the given order, at drawn boundaries of as much filler as fits into ``room`` tokens."""
    used = sum(enc.count(joiner + needle) for needle in needles)
    filler: list[str] = []
    for sentence in stream:
        used += enc.count(joiner + sentence)
        if used > room:
            break
        filler.append(sentence)
    spots = sorted(rng.randint(0, len(filler)) for _ in needles)
    for spot, needle in reversed(list(zip(spots, needles, strict=True))):
        filler.insert(spot, needle)
    return joiner.join(filler)


def cost(enc: Encoder, parts: Sequence[Part]) -> int:
    """Tokens of the fixed parts, start token, end token and one joint included."""
    return 3 + sum(enc.count(part.text) for part in parts)


# ------------------------------------------------------------------------------------------------------------- tasks


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


def singular(text: str) -> str:
    """RULER's replacements for exactly one value and one query, in its order; on the template, never on a key."""
    for old, new in (("Some", "A"), ("are all", "is"), ("are", "is"), ("answers", "answer")):
        text = text.replace(old, new)
    return text


def listed(values: Sequence[str]) -> str:
    """``a``, ``a, and b``, ``a, b, c, and d``."""
    return values[0] if len(values) == 1 else ", ".join(values[:-1]) + f", and {values[-1]}"


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


# ----------------------------------------------------------------------------------------------------------- mixture


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


# ---------------------------------------------------------------------------------------------------------- held out

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
