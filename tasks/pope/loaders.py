"""Question files as they are published; rows are taken as they stand.

* one object per line: `question_id`, `image`, `text`, `label` (COCO; 3000 rows, or 2910 in OPERA's random file);
* the same objects as one JSON list (A-OKVQA and GQA);
* POPEv2: a list of `image_id`, `image_name`, `target_object`, `query`, `label` (`Yes` or `No`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import read_rows
from tasks.pope.questions import OTHER, SPLITS, Question

Files = str | Sequence[str] | Mapping[str, str | Sequence[str]] | None
KEYS = {"image": "image", "text": "text", "label": "label", "number": "question_id"}
KEYS_V2 = {"image": "image_name", "text": "query", "label": "label", "number": ""}


def files_of(questions: Files) -> tuple[tuple[str, Path], ...]:
    """(split, file) for every file. Where the split is not given it is the one that the file's name holds."""
    if not questions:
        return ()
    if isinstance(questions, Mapping):
        return tuple((split, path) for split, value in questions.items() for _, path in files_of(value))
    several = (questions,) if isinstance(questions, str) else questions
    found = [Path(name).expanduser() for name in several]
    return tuple((next((s for s in SPLITS if s in path.stem.lower()), OTHER), path) for path in found)


def load(split: str, path: Path) -> list[Question]:
    """The questions of a file; `UserError` naming file and line (or entry) of a row that is none."""
    rows = read_rows(path, "questions")
    entries = "entry" if path.read_text("utf-8-sig").lstrip().startswith("[") else "line"
    found = [read(row, split, n, f"{path}, {entries} {line}") for n, (line, row) in enumerate(rows, start=1)]
    return found


def read(row: Mapping[str, Any], split: str, number: int, where: str) -> Question:
    """A question from one row; `number` is used where the row has none."""
    keys = KEYS_V2 if "query" in row and "text" not in row else KEYS
    values = {name: row.get(key) for name, key in keys.items()}
    for name in ("image", "text", "label"):
        if not isinstance(values[name], str) or not str(values[name]).strip():
            raise UserError(f"{where} has no '{keys[name]}', so it is no question of POPE.")
    label = str(values["label"]).strip().lower()
    if label not in ("yes", "no"):
        raise UserError(f"{where}: the label is {values['label']!r}, neither yes nor no.")
    own = values["number"]
    number = int(own) if isinstance(own, int) or (isinstance(own, str) and own.isdecimal()) else number
    image = str(values["image"]).lstrip("/")  # POPEv2 begins its names with a slash
    return Question(image, str(values["text"]), label, split, number, where)
