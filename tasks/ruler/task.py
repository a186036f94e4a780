"""RULER as a task of the harness: parameters, their checks, and the loop over tasks, lengths and samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.contracts.example import Example, Skipped
from harness.contracts.metric import Metric, Score
from harness.contracts.options import Length, Samples
from harness.contracts.task import Task
from harness.contracts.tokens import Tokens
from harness.disk.reading import is_file
from harness.errors import UserError, nearest
from tasks.ruler import catalog, rows, scoring, summary
from tasks.ruler.catalog import MIN_LENGTH, TASKS, Niah, Params, Qa, resolve, spec
from tasks.ruler.generate import examples_of
from tasks.ruler.job import Job, Meter, Sources, material, uses_words
from tasks.ruler.pools import wonderwords_files

MODES = ("robust", "strict")
WORDS = ("auto", "builtin", "wonderwords")
# option -> (what it is, where it can be had)
FILES = {
    "essay_path": (
        "a haystack text (txt, or json with a key 'text')",
        "the essays that the reference's download script collects",
    ),
    "squad_path": ("the SQuAD v2 dev file (dev-v2.0.json)", "the hub dataset rajpurkar/squad_v2"),
    "hotpot_path": ("the HotpotQA dev distractor file", "the hub dataset hotpotqa/hotpot_qa"),
}


@dataclass(frozen=True, kw_only=True)
class Ruler(Task):
    """RULER: 13 generated long-context tasks at chosen lengths (arXiv 2404.06654; NVIDIA/RULER, Apache-2.0).

    `mode`: `robust` fills every length exactly and always ends; `strict` repeats the reference draw by draw.
    `words`: `auto` is `wonderwords` for strict and `builtin` for robust. `max_new_tokens`: None is RULER's own per
    task. `params`: overrides of generator parameters per task, such as `{"vt": {"hops": 2}}`.
    Lengths are in tokens and hold prompt and answer.
    """

    title: ClassVar[str] = "RULER: retrieval, tracing, counting and questions over generated long texts"
    paper: ClassVar[str] = "2404.06654"
    licence: ClassVar[str] = (
        "Apache-2.0 (reference implementation); texts are generated, built-in questions are our own"
    )
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("score"), Metric("null", higher_is_better=False))
    says_question: ClassVar[bool] = True
    by: ClassVar[tuple[str, ...]] = ("task", "length")

    tasks: Sequence[str] = TASKS
    lengths: Sequence[Length] = (4096,)
    samples: Samples = 20
    mode: Literal["robust", "strict"] = "robust"
    words: Literal["auto", "builtin", "wonderwords"] = "auto"
    essay_path: str | None = None
    squad_path: str | None = None
    hotpot_path: str | None = None
    max_new_tokens: Length | None = None
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Lists from a configuration become tuples; what `auto` stands for is written out, so that equal meanings are
        equal."""
        for name in ("tasks", "lengths"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str | int) else tuple(value))
        changed = {str(task): _changed(str(task), values or {}) for task, values in (self.params or {}).items()}
        object.__setattr__(self, "params", {task: values for task, values in changed.items() if values})
        for option in FILES:
            path = getattr(self, option)
            object.__setattr__(self, option, str(Path(path)) if path else None)
        if self.words == "auto":
            object.__setattr__(self, "words", "wonderwords" if self.mode == "strict" else "builtin")

    def validate(self) -> None:
        """Raise `UserError` for unknown names, impossible numbers and missing files."""
        self._check_numbers()
        for task in (*self.tasks, *self.params):
            spec(task)
        for task, overrides in self.params.items():
            resolve(task, overrides)
        for name, value, known in (("mode", self.mode, MODES), ("words", self.words, WORDS)):
            if value not in known:
                raise UserError(f"ruler: {name}={value!r} is not a choice; {nearest(str(value), known)}")
        self._check_files()
        if self.words == "wonderwords" and any(uses_words(self._params(task)) for task in self.tasks):
            wonderwords_files()

    def _check_numbers(self) -> None:
        if not self.tasks:
            raise UserError(f"ruler: tasks is empty; choose from {', '.join(TASKS)}.")
        if len(set(self.tasks)) < len(self.tasks) or len(set(self.lengths)) < len(self.lengths):
            raise UserError("ruler: a task or a length is listed twice; every example needs an id of its own.")
        for length in self.lengths or ("none",):
            if not _whole(length, MIN_LENGTH):
                raise UserError(
                    f"ruler: lengths must be whole numbers of at least {MIN_LENGTH} tokens, not {length!r}."
                )
        if not _whole(self.samples, 1):
            raise UserError(f"ruler: samples={self.samples!r} must be a whole number of at least 1.")
        if self.max_new_tokens is not None and not _whole(self.max_new_tokens, 1):
            raise UserError(
                f"ruler: max_new_tokens={self.max_new_tokens!r} must be a whole number of at least 1, or null."
            )
        if self.max_new_tokens is not None and self.max_new_tokens >= min(self.lengths):
            raise UserError(
                f"ruler: max_new_tokens={self.max_new_tokens} leaves no room for a prompt in {min(self.lengths)}."
            )

    def _check_files(self) -> None:
        for option, (what, where) in FILES.items():
            path = getattr(self, option)
            if path is not None and not is_file(path):
                raise UserError(f"ruler: {option}={path} is not a file; it must be {what}.")
            users = [task for task in self.tasks if self._needs(task) == option]
            if self.mode == "strict" and users and path is None:
                raise UserError(
                    f"ruler: mode=strict needs {what} for {', '.join(users)}. Give task.ruler.{option}=<file>, or "
                    f"generate with task.ruler.mode=robust, which has texts of its own, or get the file from {where}."
                )

    def _needs(self, task: str) -> str:
        params = self._params(task)
        if isinstance(params, Qa):
            return "squad_path" if params.dataset == "squad" else "hotpot_path"
        return "essay_path" if isinstance(params, Niah) and params.haystack == "essay" else ""

    def data_files(self) -> tuple[Path, ...]:
        """The given files."""
        return tuple(Path(getattr(self, option)) for option in FILES if getattr(self, option))

    def provenance(self) -> Mapping[str, str]:
        """Name and digest of every word list, built-in text and sentence splitter that the chosen tasks draw from."""
        sources = self._sources()
        facts: dict[str, str] = {}
        for task in self.tasks:
            option = self._needs(task)
            if option in ("", "essay_path") or not getattr(
                self, option
            ):  # a given question file is told by its own digest
                facts |= {f"{task}.{key}": name for key, name in material(self._params(task), sources).items()}
        return facts

    def size(self) -> tuple[int, int]:
        """All samples, each as long as its length."""
        return len(self.tasks) * len(self.lengths) * self.samples, len(self.tasks) * sum(self.lengths) * self.samples

    def lengths_needed(self) -> int:
        """The greatest length: prompt and answer together never take more (robust), special tokens aside (strict)."""
        return max(self.lengths)

    def examples(self, tokens: Tokens) -> Iterator[Example | Skipped]:
        """All examples: by task, then length, then sample."""
        self.validate()
        strict = self.mode == "strict"
        sources, meter = self._sources(), Meter(tokens)
        for task in self.tasks:
            for length in self.lengths:
                yield from examples_of(self._job(task, length, sources, meter), strict)

    def _params(self, task: str) -> Params:
        return resolve(task, self.params.get(task, {}))

    def _sources(self) -> Sources:
        return Sources(self.words, self.essay_path, self.squad_path, self.hotpot_path, self.mode == "strict")

    def _job(self, task: str, length: int, sources: Sources, meter: Meter) -> Job:
        room = self.max_new_tokens or spec(task).max_new_tokens
        return Job(task, spec(task), self._params(task), length, room, self.samples, self.seed, sources, meter)

    def score(self, example: Example, answer: str | None) -> Score:
        """`string_match_part` for the qa tasks, `string_match_all` for all others and for rows that do not say their
        task."""
        task = str(example.meta.get("task") or example.task)
        known = catalog.CATALOG.get(task)
        return scoring.score(
            answer, example.references, known.metric if known else "part" if task.startswith("qa") else "all"
        )

    def official_row(self, example: Example) -> dict[str, Any]:
        """`index`, `input`, `outputs`, `answer_prefix`, `length` as in the files of NVIDIA/RULER."""
        return rows.official(example)

    def read_row(self, row: Mapping[str, Any], index: int) -> Example:
        """An example from a row of ours or of NVIDIA/RULER."""
        return rows.read(row, index, self.tasks, self.lengths)

    def figures(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
        """Write `ruler.csv`: tasks by length, means, weighted averages, effective length."""
        usable = [row for row in rows if row.get("meta", {}).get("task") and "score" in row.get("metrics", {})]
        if not usable:
            return []
        path = folder / "ruler.csv"
        path.write_text(summary.table(summary.scores_from_rows(usable)), encoding="utf-8")
        return [path]


def _changed(task: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides that differ from RULER's own parameters; names and values are checked later."""
    own = vars(catalog.CATALOG[task].params) if task in catalog.CATALOG else {}
    return {str(name): value for name, value in overrides.items() if name not in own or own[name] != value}


def _whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low
