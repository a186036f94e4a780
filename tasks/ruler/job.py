"""What a generator is given: one task at one length, and the sources it may draw from."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property
from random import Random

from harness.contracts.task import example_rng
from harness.contracts.tokens import Tokens
from tasks.ruler.catalog import Cwe, Niah, Params, Qa, Spec
from tasks.ruler.documents import QaSet, load_qa
from tasks.ruler.haystack import Essay, Splitter, load_essay, split_rules, strict_splitter
from tasks.ruler.pools import KeyPool, Words, key_pool, load_words
from tasks.ruler.templates import NEEDLE, NOISE, Built
from zoo.material.text.words import digest


@dataclass(frozen=True)
class Sources:
    """Word lists, essay and question files, each read at its first use. `strict`: prefer the reference's sentence
    splitter."""

    words_source: str
    essay_path: str | None
    squad_path: str | None
    hotpot_path: str | None
    strict: bool

    @cached_property
    def words(self) -> Words:
        """The word lists."""
        return load_words(self.words_source)

    @cached_property
    def keys(self) -> KeyPool:
        """Every `adjective-noun`."""
        return key_pool(self.words)

    @cached_property
    def pool(self) -> list[str]:
        """All words, sorted."""
        return self.words.pool()

    @cached_property
    def essay(self) -> Essay:
        """The essay haystack."""
        return load_essay(self.essay_path)

    @cached_property
    def splitter(self) -> tuple[str, Splitter]:
        """(name, function) of the sentence splitter."""
        return strict_splitter() if self.strict else ("rules", split_rules)

    @cached_property
    def _squad(self) -> QaSet:
        return load_qa("squad", self.squad_path)

    @cached_property
    def _hotpot(self) -> QaSet:
        return load_qa("hotpotqa", self.hotpot_path)

    def questions(self, dataset: str) -> QaSet:
        """The questions of `squad` (qa_1) or `hotpotqa` (qa_2)."""
        return self._squad if dataset == "squad" else self._hotpot


class Meter:
    """Counts tokens; remembers the counts of short pieces, which only serve to guess sizes. Whole prompts are always
    counted anew."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._pieces: dict[str, int] = {}

    def piece(self, text: str) -> int:
        """Tokens of a short text, remembered."""
        if text not in self._pieces:
            self._pieces[text] = self._tokens.count(text)
        return self._pieces[text]

    def text(self, text: str) -> int:
        """Tokens of a text without special tokens: the count of the reference."""
        return self._tokens.count(text)

    def prompt(self, built: Built) -> int:
        """Tokens the model really sees, template and special tokens included."""
        return len(self._tokens.prompt_ids(built.prompt, built.prefix))


@dataclass(frozen=True)
class Job:
    """One task at one length."""

    task: str
    spec: Spec
    params: Params
    length: int
    max_new_tokens: int
    samples: int
    seed: int
    sources: Sources
    meter: Meter

    @property
    def limit(self) -> int:
        """Most tokens a prompt may have."""
        return self.length - self.max_new_tokens

    @property
    def qa_set(self) -> QaSet:
        """The questions of a qa task."""
        assert isinstance(self.params, Qa)
        return self.sources.questions(self.params.dataset)

    def rng(self, index: int, *parts: object) -> Random:
        """The example's own generator (robust mode)."""
        return example_rng("ruler", self.seed, self.task, self.length, index, *parts)

    def draw(self, kind: str, rng: Random) -> str:
        """A random key or value: a 7-digit number, an `adjective-noun`, or a version-4 uuid."""
        if kind == "numbers":
            return str(rng.randint(10**6, 10**7 - 1))
        if kind == "words":
            return rng.choice(self.sources.keys)
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def material(params: Params, sources: Sources) -> dict[str, str]:
    """Name and digest of what an example is made of: `haystack`, `words`, `sentence_splitter`, `questions`, as far as
    they apply."""
    if isinstance(params, Qa):
        return {"questions": sources.questions(params.dataset).name}
    facts = _haystack_material(params, sources) if isinstance(params, Niah) else {}
    return facts | ({"words": sources.words.name} if uses_words(params) else {})


def uses_words(params: Params) -> bool:
    """Whether a generator draws from the word lists."""
    return isinstance(params, Cwe) or (isinstance(params, Niah) and "words" in (params.key_type, params.value_type))


def _haystack_material(params: Niah, sources: Sources) -> dict[str, str]:
    essay = params.haystack == "essay"
    sentence = NOISE if params.haystack == "noise" else NEEDLE
    facts = {"haystack": sources.essay.name if essay else f"{params.haystack}#{digest(sentence)}"}
    if essay:
        facts["sentence_splitter"] = sources.splitter[0]
    return facts
