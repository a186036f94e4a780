"""The data set `lmms-lab/POPE` of the Hugging Face hub (or a copy of it in a folder), read with `datasets`.

Split `test` of the configuration `default`: 9000 rows `question_id`, `question`, `answer`, `image_source`, `image`,
`category` (random, popular, adversarial). An image is stored once for each of its questions; the first one is used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.disk.hub import quick
from harness.disk.reading import Entry
from harness.errors import UserError
from tasks.pope.loaders import read
from tasks.pope.questions import OTHER, SPLITS, Question

if TYPE_CHECKING:
    from PIL import Image

COLUMNS = ("question_id", "question", "answer", "image_source", "category")


@dataclass(frozen=True)
class Hub:
    """The questions, the row that holds each image, and the table of images."""

    questions: tuple[Question, ...]
    rows: Mapping[str, int]
    table: Any

    def image(self, name: str) -> Image.Image:
        """RGB, decoded from the stored bytes."""
        from PIL import Image

        if name not in self.rows:
            raise UserError(f"The downloaded data hold no image {name!r}.")
        try:
            return Image.open(io.BytesIO(self._bytes(name))).convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"The downloaded image {name!r} cannot be read ({error}).") from error

    def digest(self) -> str:
        """sha256 over names and bytes of the images."""
        digest = hashlib.sha256()
        for name in sorted(self.rows):
            digest.update(f"{name}\0{hashlib.sha256(self._bytes(name)).hexdigest()}\n".encode())
        return digest.hexdigest()

    def _bytes(self, name: str) -> bytes:
        stored = self.table[self.rows[name]]["image"]
        if isinstance(stored, Mapping) and stored.get("bytes"):
            return bytes(stored["bytes"])
        raise UserError(f"The downloaded data hold no content of the image {name!r}.")


def installed() -> bool:
    """Whether the optional package is there."""
    return importlib.util.find_spec("datasets") is not None


@lru_cache(maxsize=2)
def load(name: str) -> Hub:
    """Download (once; `datasets` keeps it) or read a folder. `UserError` if that fails."""
    import datasets

    quick()
    try:
        table = datasets.load_dataset(name, split="test")
        table = table.cast_column("image", datasets.Image(decode=False))
    except Exception as error:  # anything can go wrong in a download, and none of it is a bug of ours
        raise UserError(
            f"The data set {name} cannot be loaded ({type(error).__name__}: {error}). Without a network use "
            "task.pope.source=files or task.pope.source=scenes."
        ) from error
    return from_table(table, name)


def from_table(table: Any, name: str) -> Hub:
    """From a table with the published columns: `table["column"]` and `table[row]["image"]`."""
    if missing := {*COLUMNS, "image"} - set(table.column_names):
        raise UserError(f"The data set {name} is not POPE: it lacks the columns {', '.join(sorted(missing))}.")
    questions: list[Question] = []
    rows: dict[str, int] = {}
    for i, values in enumerate(zip(*(list(table[column]) for column in COLUMNS), strict=True)):
        row = dict(zip(COLUMNS, values, strict=True))
        image = str(row["image_source"])
        image = image if "." in image else f"{image}.jpg"
        split = row["category"] if row["category"] in SPLITS else OTHER
        official = {"question_id": row["question_id"], "image": image, "text": row["question"], "label": row["answer"]}
        questions.append(read(Entry(official, f"{name}, row {i}"), split, i + 1))
        rows.setdefault(image, i)
    return Hub(tuple(questions), rows, table)
