"""`task=lm_eval`: tasks of lm-evaluation-harness, answered by heed's own engine with the method attached.

Prompts, few-shot examples, filters and scores are the library's own; its model classes and its caches of requests and
responses, which know no attention method, are not used. The library is imported when one of its tasks is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar

from harness.contracts.example import Example, Skipped
from harness.contracts.metric import Metric, Score
from harness.contracts.options import Length, Within
from harness.contracts.question import Question, Requests
from harness.contracts.task import Task
from harness.contracts.tokens import Tokens
from harness.disk.reading import is_folder, user_path
from harness.errors import UserError
from tasks.lm_eval.library import Loaded, Wanted, load

DECLARED = (Metric("the task's own"),)  # of the class, before anybody says which tasks


class Measured:
    """`metrics` of the class, and of an instance: those of its lm-eval tasks."""

    def __get__(self, task: Any, owner: Any) -> tuple[Metric, ...]:
        return DECLARED if task is None else _metrics(task.wanted)


@dataclass(frozen=True, kw_only=True)
class LmEval(Task):
    """`tasks`: names of lm-eval tasks, groups or tags. The answer to an example (a document) is a list with the response
    to each of its requests.
    """

    title: ClassVar[str] = "any task of lm-evaluation-harness (hellaswag, mmlu, gsm8k, ...)"
    paper: ClassVar[str] = "2405.14782"
    licence: ClassVar[str] = "that of each task's data"
    asks: ClassVar[type[Question]] = Requests
    skips_long: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = Measured()  # type: ignore[assignment]
    unreadable: ClassVar[tuple[str, ...]] = ("unparsed", "empty")
    folders: ClassVar[tuple[str, ...]] = ("include",)
    by: ClassVar[tuple[str, ...]] = ("task",)

    tasks: Sequence[str] = ()
    include: Sequence[str] | None = None
    num_fewshot: Annotated[int, Within(0, 1000)] | None = None
    limit: int | None = None
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None
    gen_kwargs: Mapping[str, Any] | None = None
    max_length: Length | None = None
    fewshot_seed: int = 1234
    unsafe_code: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))
        if self.include is not None:
            object.__setattr__(self, "include", tuple(str(user_path(p)) for p in self.include) or None)

    @property
    def wanted(self) -> Wanted:
        """The part of the options that decides which tasks are loaded."""
        gen_kwargs = json.dumps(dict(self.gen_kwargs or {}), sort_keys=True)
        folders = tuple(self.include or ())
        return Wanted(tuple(self.tasks), folders, self.num_fewshot, gen_kwargs, self.unsafe_code)

    @property
    def loaded(self) -> Loaded:
        """The library's own task objects."""
        return load(self.wanted)

    @property
    def scorer(self) -> str:
        """Stored with every result of `heed score`."""
        from tasks.lm_eval.library import version

        return f"lm_eval/{version()}"

    def validate(self) -> None:
        if not self.tasks:
            raise UserError(
                "task=lm_eval does not say which tasks: task.lm_eval.tasks=[hellaswag,winogrande]. `lm-eval ls tasks` lists "
                "them; folders with your own are named by task.lm_eval.include=[FOLDER]."
            )
        for key, least in (("limit", 1), ("max_length", 2), ("num_fewshot", 0)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise UserError(f"task.lm_eval.{key} is {value}: it is at least {least}, or null.")
        for folder in self.include or ():
            if not is_folder(folder):
                raise UserError(f"task.lm_eval.include names {folder}, which is no folder.")
        self._check_generation()
        _metrics(self.wanted)

    def _check_generation(self) -> None:
        from tasks.lm_eval.build import check_fewshot, generation

        for name, task in self.loaded.tasks.items():
            check_fewshot(name, task)
            if task.get_config("output_type") == "generate_until":
                generation(name, task.get_config("generation_kwargs") or {})

    def provenance(self) -> Mapping[str, str]:
        from tasks.lm_eval.digests import provenance

        return provenance(self.wanted, self.limit)

    def size(self) -> tuple[int, int]:
        from tasks.lm_eval.build import about_tokens

        found = [about_tokens(name, t, self.loaded.docs[name], self.limit) for name, t in self.loaded.tasks.items()]
        return sum(n for n, _ in found), sum(tokens for _, tokens in found)

    def examples(self, tokens: Tokens) -> Iterator[Example | Skipped]:
        """One example for each document, task after task."""
        from tasks.lm_eval.build import Asking, examples

        asking = Asking(
            self.limit, self.fewshot_seed, self.apply_chat_template, self.fewshot_as_multiturn, self.system_instruction,
            self.max_length,
        )  # fmt: skip
        for name, task in self.loaded.tasks.items():
            yield from examples(name, task, asking, tokens)

    def score(self, example: Example, answer: list[Any] | None) -> Score:
        from tasks.lm_eval.score import score

        if example.meta.get("task") not in self.loaded.tasks:
            raise UserError(
                f"The example '{example.id}' belongs to the lm-eval task '{example.meta.get('task')}', which is not in "
                "task.lm_eval.tasks."
            )
        return score(self.loaded, _rules(self.wanted), example, answer)

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The numbers of all documents as the library itself computes them, in its own layout."""
        from tasks.lm_eval.totals import summary

        return summary(self.loaded, rows)


@cache
def _rules(wanted: Wanted) -> Any:
    from tasks.lm_eval.rules import rules

    return rules(load(wanted))


@cache
def _metrics(wanted: Wanted) -> tuple[Metric, ...]:
    from tasks.lm_eval.rules import metrics

    return metrics(_rules(wanted))
