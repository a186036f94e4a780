"""`heed score`: score outputs that were produced anywhere. Pure: the same files always give the same bytes.

Examples come in our own layout or in the benchmark's official one (`Task.read_row`), outputs as `{"id", "text"}` or in
the official layout (`Task.read_output`), in any order. An example without an output scores as an empty answer, unless
its task knows better, and is counted in `n_missing`. A task that can make its examples from the ids of the outputs alone
(`OwnExamples`) needs no file of examples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from harness.analysis.statistics import Estimate, aggregate, groups
from harness.contracts.example import Example
from harness.contracts.metric import Score
from harness.contracts.question import Unreadable
from harness.contracts.task import Task
from harness.disk.content import file_digest
from harness.disk.output import write_output
from harness.disk.reading import Entry, named, read_entries
from harness.disk.whole import json_bytes, line_of
from harness.errors import UserError

MISSING, EMPTY = "missing", "empty"  # flags: there is no output, nothing stands in it
Placed = Sequence[tuple[str, Mapping[str, Any]]]  # rows with their place ("answers.jsonl, line 3")


@runtime_checkable
class OwnExamples(Protocol):
    """A task whose examples depend on its settings and on nothing that a model or tokenizer has."""

    def examples_of(self, ids: Sequence[str]) -> list[Example]:
        """The examples for outputs with these ids; `UserError` for an id that there cannot be."""
        ...


def rescore(task: Task, examples: Path | None, outputs: Path, out: Path) -> dict[str, Any]:
    """Score `outputs` against `examples` (None: the task's own), write the result to `out` as JSON and return it.

    Result: `task`, `scorer`, `n`, `n_empty` (given, but blank), `n_missing`, `n_error` (finish "error"), `data_sha256`
    (of the examples file, or of the one that `heed data` would write), `metrics` and `intervals` by name, `groups` (one
    entry for every value of the task's `by` keys) and `examples` in the order of the examples; `scoring` (facts on the
    scorer: digests, versions) for tasks that have some.
    """
    rows = output_rows(task, outputs)
    read = read_examples(task, examples) if examples else own_examples(task, rows)
    answers = matched(rows, {e.id for e in read})
    texts = [_text(answers.get(e.id), e.id, outputs) for e in read]
    scores = [_scored(task, e, text, e.id in answers) for e, text in zip(read, texts, strict=True)]
    given = [text for e, text in zip(read, texts, strict=True) if e.id in answers]
    name = read[0].task or type(task).__name__.lower()
    result = {
        "task": name,
        "scorer": scorer_name(task, name),
        "n": len(read),
        "n_empty": sum(not (text or "").strip() for text in given),
        "n_missing": len(read) - len(given),
        "n_error": sum(row.get("finish") == "error" for row in answers.values()),
        "data_sha256": file_digest(examples) if examples else _digest(task, read),
        **_scoring(task),
        **_numbers(task, read, scores),
        "groups": _groups(task, read, scores),
        "examples": [_row(e, s) for e, s in zip(read, scores, strict=True)],
    }
    write_output(out, json_bytes(result))
    return result


def scorer_name(task: Task, name: str) -> str:
    """What scored: as the task says, else its name."""
    return task.scorer or name


def read_examples(task: Task, path: Path) -> list[Example]:
    """All examples of a file; `UserError` with the line for rows that the task cannot read and for repeated ids."""
    found: list[Example] = []
    places: dict[str, str] = {}
    for entry in read_entries(path, "examples file"):
        example = _example(task, entry, len(found))
        if "id" not in entry and example.id in places:  # official files may repeat their own number
            example = replace(example, id=_repeat(example.id, places))
        _once(example.id, places, entry.where)
        found.append(example)
    return found


def _example(task: Task, entry: Entry, index: int) -> Example:
    """The example of a row. References that are there must say something: any answer would hold an empty one."""
    try:
        example = task.read_row(entry.values, index)
    except UserError as error:
        raise UserError(f"{entry.where}: {error}") from error
    except KeyError as error:
        raise entry.error(f"the key {error} is missing, so it is no example of this task") from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise entry.error(f"it is no example of this task ({error})") from error
    for number, reference in enumerate(example.references if example.question.in_words else (), start=1):
        if not isinstance(reference, str) or not reference.strip():
            what = "blank" if isinstance(reference, str) else f"{named(reference)}, not a text"
            raise entry.error(f"reference {number} is {what}: no answer can be scored against it")
    return example


def own_examples(task: Task, rows: Placed) -> list[Example]:
    """The task's own examples for output rows; `UserError` if it cannot make them without a tokenizer."""
    if not isinstance(task, OwnExamples):
        raise UserError(
            "Missing examples=FILE. The outputs alone do not say what this task asked, so name the file that they were "
            "made from (`heed data` writes it)."
        )
    return task.examples_of(list(dict.fromkeys(str(row["id"]) for _, row in rows)))


def output_rows(task: Task, path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """The rows of an outputs file as `{"id", "text"}`, with their places; `UserError` for a row that is none."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    for entry in read_entries(path, "outputs file", stdin=True):
        try:
            read = task.read_output(entry.values, len(found))
        except UserError as error:
            raise UserError(f"{entry.where}: {error}") from error
        except KeyError as error:
            raise entry.error(
                f'the key {error} is missing, so it is no output of this task: write {{"id": ..., "text": ...}} or the '
                "benchmark's own layout (see the task's README)"
            ) from error
        except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
            raise entry.error(f"it is no output of this task ({error})") from error
        if missing := [key for key in ("id", "text") if key not in read]:
            raise entry.error(f'the key \'{missing[0]}\' is missing: an output is {{"id": ..., "text": ...}}')
        found.append((entry.where, {**read, "id": Entry(read, entry.where).name("id")}))
    return found


def matched(rows: Placed, known: set[str]) -> dict[str, Mapping[str, Any]]:
    """Output rows by id; `UserError` for an id that stands twice, or one that no example has."""
    found: dict[str, Mapping[str, Any]] = {}
    places: dict[str, str] = {}
    for where, row in rows:
        name = str(row["id"])
        if name in places and _repeat(name, places) in known:
            name = _repeat(name, places)
        if name not in known:
            raise UserError(
                f"{where}: no example has the id '{name}'. Score outputs against the file of examples that they were made "
                "from."
            )
        _once(name, places, where)
        found[name] = row
    return found


def _repeat(name: str, places: Mapping[str, str]) -> str:
    """`7`, then `7#2`, `7#3`, ...: rows of examples and outputs that share a number are matched in their order."""
    number = 2
    while f"{name}#{number}" in places:
        number += 1
    return f"{name}#{number}"


def _once(name: str, places: dict[str, str], where: str) -> None:
    if name in places:
        raise UserError(
            f"{where}: the id '{name}' already stands in {places[name].rpartition(', ')[2]}. Keep one of them."
        )
    places[name] = where


def _text(row: Mapping[str, Any] | None, name: str, path: Path) -> str | None:
    """The text of an output. A list (the nlls of a likelihood task) becomes the JSON text that it stands for."""
    text = None if row is None else row["text"]
    if isinstance(text, list):
        return json.dumps(text)
    if text is not None and not isinstance(text, str):
        raise UserError(f"{path}: the text of the output '{name}' is {type(text).__name__}, not a string.")
    return text


def _scored(task: Task, example: Example, text: str | None, given: bool) -> Score:
    """A text that is no answer to its question scores as none, and says why."""
    try:
        score = task.score(example, None if text is None else example.question.read(text))
    except Unreadable as error:
        score = task.score(example, None)
        score = replace(score, flags=(str(error), *(flag for flag in score.flags if flag != EMPTY)))
    return score if given else replace(score, flags=(*score.flags, MISSING))


def _digest(task: Task, examples: Sequence[Example]) -> str:
    """sha256 of the file that `heed data` writes for these examples."""
    lines = (line_of({**e.to_row(), **task.official_row(e)}) for e in examples)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _scoring(task: Task) -> dict[str, Any]:
    facts = task.scoring()
    return {"scoring": dict(facts)} if facts else {}


def _numbers(task: Task, examples: Sequence[Example], scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """`metrics`: value by name; `intervals`: [low, high] by name (None where a single cluster gives none)."""
    rows, clusters = [dict(s.metrics) for s in scores], [e.cluster for e in examples]
    found: dict[str, Estimate] = {metric.name: aggregate(metric, rows, clusters) for metric in task.metrics}
    return {
        "metrics": {name: estimate.value for name, estimate in found.items()},
        "intervals": {name: [estimate.low, estimate.high] for name, estimate in found.items()},
    }


def _groups(task: Task, examples: Sequence[Example], scores: Sequence[Score]) -> list[dict[str, Any]]:
    found = []
    for by, members in groups([{"meta": e.meta} for e in examples], task.by):
        numbers = _numbers(task, [examples[i] for i in members], [scores[i] for i in members])
        found.append({"by": by, "n": len(members), **numbers})
    return found


def _row(example: Example, score: Score) -> dict[str, Any]:
    return {"id": example.id, "parsed": score.parsed, "metrics": dict(score.metrics), "flags": list(score.flags)}
