"""Question files as they are published; rows are taken as they stand.

* one object per line: `question_id`, `image`, `text`, `label` (COCO; 3000 rows, or 2910 in OPERA's random file);
* the same objects as one JSON list (A-OKVQA and GQA);
* POPEv2: a list of `image_id`, `image_name`, `target_object`, `query`, `label` (`Yes` or `No`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.disk.reading import Entry, read_entries, user_path
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
    found = [user_path(name) for name in several]
    return tuple((next((s for s in SPLITS if s in path.stem.lower()), OTHER), path) for path in found)


def load(split: str, path: Path) -> list[Question]:
    """The questions of a file; `UserError` naming file and line (or entry) of a row that is none."""
    return [read(entry, split, number) for number, entry in enumerate(read_entries(path, "questions file"), start=1)]


def read(entry: Entry, split: str, number: int) -> Question:
    """A question from one row; `number` is used where the row has none."""
    keys = KEYS_V2 if "query" in entry and "text" not in entry else KEYS
    image, text, label = (entry.text(keys[name]) for name in ("image", "text", "label"))
    if label.strip().lower() not in ("yes", "no"):
        raise entry.error(f"the label is {label!r}, neither yes nor no")
    own = entry.values.get(keys["number"])
    if isinstance(own, str) and own.isdecimal():
        number = int(own[:18])
    elif own is not None:
        number = entry.whole(keys["number"])
    # POPEv2 begins its names with a slash
    return Question(image.lstrip("/"), text, label.strip().lower(), split, number, entry.where)
