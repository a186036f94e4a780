"""The questions of POPE: what one is, and which of them are the same request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

SPLITS = ("random", "popular", "adversarial")
OTHER = "other"  # files that are none of the three, such as POPEv2


@dataclass(frozen=True)
class Question:
    """One row of a question file. `number` is its `question_id`; `origin` names file and row in errors."""

    image: str
    text: str
    label: str
    split: str
    number: int
    origin: str = field(default="", compare=False)

    def official(self) -> dict[str, object]:
        """The row in the published layout."""
        return {"question_id": self.number, "image": self.image, "text": self.text, "label": self.label}


def by_image(questions: Iterable[Question]) -> dict[str, list[Question]]:
    """The questions of each image in first-seen order, so that any beginning of the examples covers all splits."""
    found: dict[str, list[Question]] = {}
    for question in questions:
        found.setdefault(question.image, []).append(question)
    return found


def distinct(questions: Iterable[Question]) -> list[list[Question]]:
    """Questions with the same text (and label) about one image: the positive ones stand in all three files."""
    found: dict[tuple[str, str, str], list[Question]] = {}
    for question in questions:
        found.setdefault((question.image, question.text, question.label), []).append(question)
    return list(found.values())


def per_split(questions: Iterable[Question]) -> dict[str, list[Question]]:
    """The questions of each file, in its order."""
    found: dict[str, list[Question]] = {}
    for question in questions:
        found.setdefault(question.split, []).append(question)
    return found
