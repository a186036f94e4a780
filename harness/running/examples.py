"""A task's examples from disk: built once, read back when nothing that they depend on has changed.

One file per task, parameters and tokenizer. Every line is an example or a skipped one; the last line holds the sha256
of all lines before it, so that a torn or edited file is noticed and built anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts.asker import asker_of
from harness.contracts.example import Example, Skipped
from harness.contracts.task import Task
from harness.contracts.tokens import Tokens
from harness.disk.content import file_digest
from harness.disk.whole import disk_error, whole_file
from harness.errors import UserError
from harness.identity.run_id import canonical, sha256
from harness.plan.cells import Cell
from harness.plan.identities import data_digests
from harness.plan.limit import limited
from harness.plan.refusals import fitting
from harness.running.asked import Data
from harness.running.settings import Progress, RunSettings

if TYPE_CHECKING:
    from harness.models.view import View

VERSION = 2  # raise it when the layout of the file changes
Item = Example | Skipped


def task_data(cell: Cell, view: View, settings: RunSettings, progress: Progress | None = None) -> Data:
    """Examples of the cell's task in the order in which `limit` takes them, read for the model."""
    task, too_long = fitting(cell.task, cell.task_label, cell.model_label, view.max_positions)
    if progress:
        progress.note(f"preparing {cell.task_label} for {cell.model_label}")
    tokens = tokens_of(cell.task.tokenizer, view)
    if not set(data_digests(task).values()) <= set(cell.identity["task"]["data"]):
        raise UserError(
            f"data of task '{cell.task_label}' changed since the run was planned, so its results would have another id. Run the "
            "same command again."
        )
    items = prepared(task, tokens, settings.root / "data", canonical(cell.identity["task"]))
    examples = [e for e in items if isinstance(e, Example)]
    skipped = [*too_long, *(s for s in items if isinstance(s, Skipped))]
    if not examples:
        why = f" The first reason: {skipped[0].reason}" if skipped else ""
        raise UserError(
            f"task '{cell.task_label}' has no example that fits these settings ({len(skipped)} skipped).{why}"
        )
    taken, missing = limited(examples, task.by, settings.limit)
    if progress and missing:
        progress.tell(
            f"limit={settings.limit} leaves {cell.task_label} without a sample of {missing}; raise limit to have one."
        )
    asker = asker_of(task.asks)
    return Data(taken, [asker.read(view, cell.task, example, settings.share) for example in taken], skipped)


def tokens_of(tokenizer: str | None, view: Any) -> Any:
    """The tokenizer that a task measures lengths with: its own option, or the model's."""
    if tokenizer is None:
        return view.tokens.within(view.max_positions)
    from harness.models.load import ModelSpec

    return ModelSpec(path=tokenizer).tokens()


def prepared(task: Task, tokens: Tokens, root: Path | None, source: str = "") -> list[Item]:
    """The examples of `task` for a tokenizer, from the cache in `root` (None: no cache).

    `source` stands for everything else that decides the examples, such as the digest of the task's code. Examples come
    back as they are stored (tuples in `meta` are lists), whether they were built now or read.
    """
    if root is None:
        return [_stored(item, task) for item in task.examples(tokens)]
    path = root / f"{cache_key(task, tokens, source)}.jsonl"
    kept = _read(path, task)
    return _build(path, task, tokens) if kept is None else kept


def cache_key(task: Task, tokens: Tokens, source: str = "") -> str:
    """32 hex digits over the class of the task, its fields, the content of its files, its other material, `source`
    and the tokenizer."""
    cls = type(task)
    facts = {
        "version": VERSION,
        "task": f"{cls.__module__}.{cls.__qualname__}",
        "fields": {f.name: getattr(task, f.name) for f in fields(task)},
        "files": _files(task),
        "provenance": dict(task.provenance()),
        "source": source,
        "tokens": tokens.digest,
        "template": tokens.template,  # lengths are fitted on templated ids
    }
    if tokens.date:
        facts["date"] = tokens.date  # the template writes it into every prompt
    if task.skips_long:
        facts["positions"] = tokens.max_positions
    return sha256(canonical(facts))[:32]


def _files(task: Task) -> list[str]:
    """The digests of the task's files as they are now."""
    return [file_digest(path) for path in task.data_files()]


def _line(item: Item) -> bytes:
    if isinstance(item, Example):
        row: dict[str, Any] = {"example": item.to_row()}
    else:
        row = {"skipped": {"id": item.id, "reason": item.reason, "meta": dict(item.meta)}}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"


def _stored(item: Item, task: Task) -> Item:
    """What `_item` makes of its line."""
    if isinstance(item, Example) and type(item.question) is not task.asks:
        kinds = f"a {type(item.question).__name__}, where the task says {task.asks.__name__}"
        raise TypeError(f"example '{item.id}' of {type(task).__name__} asks {kinds}")
    return replace(item, meta=json.loads(json.dumps(dict(item.meta))))


def _item(line: bytes, task: Task) -> Item:
    row = json.loads(line)
    return Example.from_row(row["example"], task.asks) if "example" in row else Skipped(**row["skipped"])


def _seal(digest: str, n: int) -> bytes:
    return json.dumps({"sha256": digest, "n": n}).encode() + b"\n"


def _build(path: Path, task: Task, tokens: Tokens) -> list[Item]:
    """Build the examples and write them line by line."""
    items, digest, before = [], hashlib.sha256(), _files(task)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(path, error) from error
    with whole_file(path) as file:
        for item in task.examples(tokens):
            line = _line(item)
            digest.update(line)
            file.write(line)
            items.append(_stored(item, task))
        file.write(_seal(digest.hexdigest(), len(items)))
        if _files(task) != before:
            raise UserError(
                f"Data of {type(task).__name__} changed while the examples were made from it. Run the same command again."
            )
    return items


def _read(path: Path, task: Task) -> list[Item] | None:
    """The items of a whole, unedited file; None if it is absent or damaged."""
    items: list[Item] = []
    digest, last = hashlib.sha256(), b""
    try:
        with path.open("rb") as file:
            for line in file:
                if last:
                    digest.update(last)
                    items.append(_item(last, task))
                last = line
        if last == _seal(digest.hexdigest(), len(items)):
            return items
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # a line that is no JSON, or no example
        pass
    logging.getLogger(__name__).warning("prepared examples in %s are damaged; they are built anew", path)
    return None
