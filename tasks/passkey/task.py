"""The passkey task in four styles; see the README for the facts and their sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from harness.contracts.example import Example, Skipped
from harness.contracts.metric import Metric, Score
from harness.contracts.question import Generate
from harness.contracts.task import example_rng
from harness.contracts.tokens import Tokens
from harness.disk.reading import Entry, read_text
from tasks.passkey import prompts
from tasks.passkey.parameters import ESSAY, PasskeyParameters
from tasks.passkey.policies import POLICIES
from tasks.passkey.styles import STYLES
from zoo.material.text import words


@dataclass(frozen=True, kw_only=True)
class Passkey(PasskeyParameters):
    """Find a number in filler."""

    title: ClassVar[str] = "a number hidden in filler: accuracy by length and depth"
    paper: ClassVar[str] = "2305.16300"
    licence: ClassVar[str] = "generated; templates Apache-2.0 (landmark, LongLoRA) and MIT (InfiniteBench)"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("accuracy"),)
    says_question: ClassVar[bool] = True
    by: ClassVar[tuple[str, ...]] = ("length", "depth")

    @property
    def scorer(self) -> str:
        """Name and policy, stored with every result."""
        return f"passkey/{self.policy}"

    def data_files(self) -> tuple[Path, ...]:
        return (Path(self.essay_path),) if self.essay_path else ()

    def provenance(self) -> Mapping[str, str]:
        """The built-in essays, where they are the filler."""
        return {"essay": words.digest(words.essay())} if self.filler == "essay" and not self.essay_path else {}

    def size(self) -> tuple[int, int]:
        """Known for the grid, where lengths are tokens."""
        cells = len(self.depths or ()) * len(self._trials)
        if self.style != "grid":
            return 0, 0
        return cells * len(self._lengths), cells * sum(n + (self.max_new_tokens or 0) for n in self._lengths)

    def lengths_needed(self) -> int:
        """Known for the grid only: the other styles count characters or lines."""
        return max(self._lengths) + (self.max_new_tokens or 0) if self.style == "grid" else 0

    def examples(self, tokens: Tokens) -> Iterator[Example | Skipped]:
        build = {"landmark": self._landmark, "longlora": self._longlora, "infinitebench": self._infinitebench}
        return build.get(self.style, self._grid)(tokens)

    def score(self, example: Example, answer: str | None) -> Score:
        text, key = answer or "", (example.references or ("",))[0]
        right, found = POLICIES[self.policy or "first_digits"](text, key) if key.isdecimal() else (False, "")
        flag = "empty" if not text.strip() else "no_number" if not found else ""
        return Score({"accuracy": float(right)}, found, (flag,) if flag else ())

    def official_row(self, example: Example) -> dict[str, Any]:
        """InfiniteBench's columns, for its style only."""
        prompt = example.asks(Generate).prompt
        if self.style != "infinitebench" or not isinstance(prompt, str):
            return {}
        context = prompts.infinitebench_context(prompt)
        answer = list(example.references)
        return {"context": context, "input": prompts.QUESTION, "answer": answer, "options": []}

    def read_row(self, row: Mapping[str, Any], index: int) -> Example:
        """Our own layout, or a row of InfiniteBench's `passkey.jsonl` (`context`, `input`, `answer`)."""
        if "prompt" in row or "context" not in row:
            return Example.from_row(row)
        given = Entry(row)
        key = given.texts("answer")[0] if isinstance(row.get("answer"), list) else given.name("answer")
        text = prompts.infinitebench_text(given.text("context"), given.text("input", prompts.QUESTION))
        new = STYLES["infinitebench"].max_new_tokens or 0
        name = given.name("id") if "id" in row else str(index)
        return Example(
            id=name,
            question=Generate(text, prompts.INFINITE_ANSWER, max_new_tokens=new),
            references=(key,),
            task="passkey",
            meta={"key": key},
        )

    def figures(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
        from tasks.passkey.heatmap import write

        return write(rows, folder)

    @property
    def _lengths(self) -> tuple[int, ...]:
        return tuple(self.lengths or ())

    @property
    def _trials(self) -> range:
        return range(self.trials or 0)

    def _landmark(self, tokens: Tokens) -> Iterator[Example]:
        """One generator for the whole run, seeded once, as the reference's module-level one would be."""
        rng = Random(self.seed)
        for length in self._lengths:
            for trial in self._trials:
                yield self._example(tokens, prompts.landmark(rng, length), length, None, trial)

    def _longlora(self, tokens: Tokens) -> Iterator[Example]:
        """The reference seeds with the number of the test: `seed` 0 is the published set."""
        for length in self._lengths:
            for trial in self._trials:
                yield self._example(tokens, prompts.longlora(self.seed + trial, length), length, None, trial)

    def _infinitebench(self, tokens: Tokens) -> Iterator[Example]:
        for length in self._lengths:
            wanted = [prompts.split_at(length, depth) for depth in self.depths or ()]
            for position in dict.fromkeys(wanted) or prompts.infinitebench_positions(length):
                for trial in self._trials:
                    rng = example_rng("passkey", self.seed, self.style, length, position, trial)
                    prompt = prompts.infinitebench(rng, length, position, self.digits)
                    yield self._example(tokens, prompt, length, prompt.true_depth, trial)

    def _grid(self, tokens: Tokens) -> Iterator[Example | Skipped]:
        filler = self._filler_sentences()
        per_sentence = max(1.0, tokens.count(" ".join(filler)) / len(filler))
        for length in self._lengths:
            for depth in self.depths or ():
                for trial in self._trials:
                    yield self._cell(tokens, filler, per_sentence, length, depth, trial)

    def _filler_sentences(self) -> tuple[str, ...]:
        if self.filler == "noise":
            return prompts.sentences(prompts.NOISE)
        return prompts.sentences(read_text(Path(self.essay_path), ESSAY) if self.essay_path else words.essay())

    def _key(self, length: int, depth: float, trial: int, filler: tuple[str, ...]) -> str:
        """A key without a leading zero that the filler does not contain."""
        rng = example_rng("passkey", self.seed, self.style, length, depth, trial)
        while True:
            key = str(rng.randint(10 ** (self.digits - 1), 10**self.digits - 1))
            if not any(key in sentence for sentence in filler):
                return key

    def _cell(
        self, tokens: Tokens, filler: tuple[str, ...], per_sentence: float, length: int, depth: float, trial: int
    ) -> Example | Skipped:
        key = self._key(length, depth, trial, filler)
        prompt = prompts.fitted(tokens, key, filler, per_sentence, length, depth)
        if isinstance(prompt, int):
            reason = f"the prompt without any filler has {prompt} tokens, more than the length {length}"
            return Skipped(_id(self.style, length, depth, trial), reason, {"length": length, "depth": depth})
        return self._example(tokens, prompt, length, depth, trial)

    def _example(self, tokens: Tokens, prompt: prompts.Prompt, length: int, depth: float | None, trial: int) -> Example:
        """`depth` None: the style drew it; `meta` then holds the nearest multiple of 10, and `true_depth` as ever."""
        nominal = 10 * int(prompt.true_depth / 10 + 0.5) if depth is None else depth
        meta = {
            "style": self.style, "unit": STYLES[self.style].unit, "length": length, "depth": nominal, "trial": trial,
            "key": prompt.key, "filler": self.filler, "n_tokens": len(tokens.prompt_ids(prompt.text, prompt.answer)),
            "n_characters": len(prompt.text + prompt.answer), "true_depth": prompt.true_depth,
        }  # fmt: skip
        new = self.max_new_tokens or tokens.count(f" {prompt.key}")
        return Example(
            id=_id(self.style, length, depth, trial),
            question=Generate(prompt.text, prompt.answer, max_new_tokens=new, query=prompts.QUESTION),
            references=(prompt.key,),
            task="passkey",
            meta=meta,
        )


def _id(style: str, length: int, depth: float | None, trial: int) -> str:
    return f"{style}-{length}-{trial}" if depth is None else f"{style}-{length}-d{depth:g}-{trial}"
