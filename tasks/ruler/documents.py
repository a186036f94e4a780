"""Question files: SQuAD v2 and HotpotQA (distractor) json, or the small sets of our own in `data/`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.text.words import digest


@dataclass(frozen=True)
class Question:
    """A question with indexes into the documents: `gold` stand in the question's own record, `core` are those that
    hold the answer, `related` are other paragraphs of the same article. `cluster`: article or record."""

    text: str
    answers: tuple[str, ...]
    gold: tuple[int, ...]
    core: tuple[int, ...]
    related: tuple[int, ...] = ()
    cluster: str = ""


@dataclass(frozen=True)
class QaSet:
    """Sorted distinct documents and the questions about them."""

    name: str
    documents: tuple[str, ...]
    questions: tuple[Question, ...]


BUILTIN = {"squad": "squad.json", "hotpotqa": "hotpot.json"}


def load_qa(dataset: str, path: str | None) -> QaSet:
    """Read a file in SQuAD (`dataset` squad) or HotpotQA (hotpotqa) layout; `path` None: the built-in set."""
    try:
        if path is None:
            name = f"builtin-{dataset}"
            text = resources.files("tasks.ruler").joinpath("data", BUILTIN[dataset]).read_text(encoding="utf-8")
        else:
            name, text = Path(path).name, Path(path).read_text(encoding="utf-8")
        documents, questions = READERS[dataset](json.loads(text))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"ruler: {path} is not a file in {dataset} layout ({type(error).__name__}: {error})."
        ) from error
    if not questions:
        raise UserError(f"ruler: {path} holds no answerable question.")
    return QaSet(f"{name}#{digest(text)}", tuple(documents), tuple(questions))


def read_squad(data: Any) -> tuple[list[str], list[Question]]:
    """Documents are the distinct paragraphs; unanswerable questions are left out; every annotator's answer is kept."""
    documents = sorted({p["context"] for article in data["data"] for p in article["paragraphs"]})
    place = {text: i for i, text in enumerate(documents)}
    questions = []
    for number, article in enumerate(data["data"]):
        paragraphs = [place[p["context"]] for p in article["paragraphs"]]
        for paragraph, here in zip(article["paragraphs"], paragraphs, strict=True):
            related = tuple(i for i in paragraphs if i != here)
            for qa in paragraph["qas"]:
                if not qa.get("is_impossible", False):
                    answers = tuple(answer["text"] for answer in qa["answers"])
                    cluster = str(article.get("title", number))
                    questions.append(Question(qa["question"], answers, (here,), (here,), related, cluster))
    return documents, questions


def read_hotpot(data: Any) -> tuple[list[str], list[Question]]:
    """A document is its title, a newline, and its sentences; the core are the documents named by `supporting_facts`."""
    records = [[(title, f"{title}\n{''.join(sentences)}") for title, sentences in record["context"]] for record in data]
    documents = sorted({text for record in records for _, text in record})
    place = {text: i for i, text in enumerate(documents)}
    questions = []
    for number, (record, context) in enumerate(zip(data, records, strict=True)):
        gold = tuple(place[text] for _, text in context)
        facts = {title for title, _ in record.get("supporting_facts", ())}
        core = tuple(place[text] for title, text in context if title in facts) or gold
        cluster = str(record.get("_id", number))
        questions.append(Question(record["question"], (record["answer"],), gold, core, (), cluster))
    return documents, questions


READERS: dict[str, Callable[[Any], tuple[list[str], list[Question]]]] = {"squad": read_squad, "hotpotqa": read_hotpot}
