"""RULER's official rows: `index`, `input`, `outputs`, `answer_prefix`, `length`, and sometimes `task`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.contracts.example import Example
from harness.contracts.question import Generate
from harness.disk.reading import Entry
from harness.errors import UserError
from tasks.ruler.catalog import CATALOG


def official(example: Example) -> dict[str, Any]:
    """The official keys of an example. `index` is the number of the sample (the reference overwrites it in niah files
    with the character offset of the answer, which makes resuming skip samples)."""
    asked = example.asks(Generate)
    return {
        "index": example.meta.get("index", 0),
        "input": asked.prompt,
        "outputs": list(example.references),
        "answer_prefix": asked.answer_prefix,
        "length": example.meta.get("row_length", example.meta.get("length", 0)),
    }


def read(row: Mapping[str, Any], line: int, tasks: Sequence[str], lengths: Sequence[int]) -> Example:
    """An example from our own envelope (it has `id` and `prompt`) or from an official row.

    An official row states how many tokens it uses, not which length it was made for: it is filed under the smallest of
    `lengths` that holds it. Its id is `index`, else the line number.
    Its task is the row's `task`, else the only one of `tasks`, else unknown (scored as `all`).
    """
    if "id" in row and "prompt" in row:
        return Example.from_row(row)
    if missing := [key for key in ("input", "outputs") if key not in row]:
        raise UserError(
            "it is neither our own row of ruler (id, prompt, references) nor an official one (index, input, outputs, "
            f"answer_prefix, length): it lacks {', '.join(missing)}."
        )
    given = Entry(row)
    task = given.text("task", "", blank=True) or (tasks[0] if len(tasks) == 1 else "")
    used = given.whole("length", 0)
    length = min((each for each in lengths if each >= used), default=used)
    room = given.whole("max_new_tokens", 0) or (CATALOG[task].max_new_tokens if task in CATALOG else 128)
    index = given.name("index") if "index" in given else str(line)
    meta = {"task": task, "length": length, "row_length": used, "index": row.get("index", line), "mode": "file"}
    return Example(
        id=index,
        question=Generate(given.text("input"), given.text("answer_prefix", "", blank=True), max_new_tokens=room),
        references=given.texts("outputs"),
        task=task,
        split=given.text("split", "", blank=True),
        meta=meta,
    )
