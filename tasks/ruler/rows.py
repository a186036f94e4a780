"""RULER's official rows: `index`, `input`, `outputs`, `answer_prefix`, `length`, and sometimes `task`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.contracts.task import Example
from harness.errors import UserError
from tasks.ruler.catalog import CATALOG


def official(example: Example) -> dict[str, Any]:
    """The official keys of an example. `index` is the number of the sample (the reference overwrites it in niah files
    with the character offset of the answer, which makes resuming skip samples)."""
    return {
        "index": example.meta.get("index", 0),
        "input": example.prompt,
        "outputs": list(example.references),
        "answer_prefix": example.answer_prefix,
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
    missing = [key for key in ("input", "outputs") if key not in row]
    if missing:
        raise UserError(
            f"ruler: line {line + 1} is neither our own row (id, prompt, references) nor an official one (index, "
            f"input, outputs, answer_prefix, length): it lacks {', '.join(missing)}."
        )
    task = str(row.get("task") or (tasks[0] if len(tasks) == 1 else ""))
    used = int(row.get("length", 0))
    length = min((each for each in lengths if each >= used), default=used)
    room = int(row.get("max_new_tokens") or (CATALOG[task].max_new_tokens if task in CATALOG else 128))
    meta = {"task": task, "length": length, "row_length": used, "index": row.get("index", line), "mode": "file"}
    return Example(
        id=str(row.get("index", line)),
        prompt=str(row["input"]),
        answer_prefix=str(row.get("answer_prefix", "")),
        references=tuple(map(str, row["outputs"])),
        max_new_tokens=room,
        task=task,
        split=str(row.get("split", "")),
        meta=meta,
    )
