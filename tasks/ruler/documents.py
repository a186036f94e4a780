"""Question files: SQuAD v2 and HotpotQA (distractor) json, or the small sets of our own in `data/`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from harness.disk.reading import Entry, as_entry, parsed, read_text
from harness.errors import UserError
from zoo.material.text.words import digest


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


LAYOUTS = {
    "squad": 'ruler.squad_path takes the layout of SQuAD: {"data": [{"paragraphs": [{"context": TEXT, "qas": [{"question": TEXT, '
    '"answers": [{"text": TEXT}]}]}]}]}.',
    "hotpotqa": 'ruler.hotpot_path takes the layout of HotpotQA: [{"question": TEXT, "answer": TEXT, "context": [[TITLE, '
    '[SENTENCE, ...]], ...], "supporting_facts": [[TITLE, NUMBER], ...]}].',
}


def load_qa(dataset: str, path: str | None) -> QaSet:
    """Read a file in SQuAD (`dataset` squad) or HotpotQA (hotpotqa) layout; `path` None: the built-in set.

    `UserError` names file, entry and key of what has no such layout; an empty answer is refused, as any output holds it.
    """
    if path is None:
        name = f"builtin-{dataset}"
        text = resources.files("tasks.ruler").joinpath("data", BUILTIN[dataset]).read_text(encoding="utf-8")
    else:
        name, text = Path(path).name, read_text(Path(path), "questions file")
    where = path or name
    documents, questions = READERS[dataset](parsed(text, where, LAYOUTS[dataset]), where)
    if not questions:
        raise UserError(f"ruler: {where} holds no answerable question.")
    return QaSet(f"{name}#{digest(text)}", tuple(documents), tuple(questions))


def read_squad(data: Any, where: str = "squad") -> tuple[list[str], list[Question]]:
    """Documents are the distinct paragraphs; unanswerable questions are left out; every annotator's answer is kept."""
    articles = as_entry(data, where, LAYOUTS["squad"]).entries("data")
    several = [article.entries("paragraphs") for article in articles]
    documents = sorted({paragraph.text("context") for paragraphs in several for paragraph in paragraphs})
    place = {text: i for i, text in enumerate(documents)}
    questions = []
    for number, (article, paragraphs) in enumerate(zip(articles, several, strict=True)):
        places = [place[paragraph.text("context")] for paragraph in paragraphs]
        for paragraph, here in zip(paragraphs, places, strict=True):
            related = tuple(i for i in places if i != here)
            for qa in paragraph.entries("qas", empty=True):
                if not qa.flag("is_impossible", default=False):
                    answers = tuple(answer.text("text") for answer in qa.entries("answers"))
                    cluster = str(article.values.get("title", number))
                    questions.append(Question(qa.text("question"), answers, (here,), (here,), related, cluster))
    return documents, questions


def read_hotpot(data: Any, where: str = "hotpotqa") -> tuple[list[str], list[Question]]:
    """A document is its title, a newline, and its sentences; the core are the documents named by `supporting_facts`."""
    listed = as_entry({"records": data}, where, LAYOUTS["hotpotqa"]).entries("records")
    records = [_paragraphs(record) for record in listed]
    documents = sorted({text for record in records for _, text in record})
    place = {text: i for i, text in enumerate(documents)}
    questions = []
    for number, (record, context) in enumerate(zip(listed, records, strict=True)):
        gold = tuple(place[text] for _, text in context)
        facts = _titles(record)
        core = tuple(place[text] for title, text in context if title in facts) or gold
        cluster = str(record.values.get("_id", number))
        questions.append(Question(record.text("question"), (record.text("answer"),), gold, core, (), cluster))
    return documents, questions


def _paragraphs(record: Entry) -> list[tuple[str, str]]:
    """(title, document) of every paragraph in a record's context."""
    found = []
    for number, item in enumerate(record.items("context"), start=1):
        if not isinstance(item, list) or len(item) != 2:
            raise record.error(f"'context' {number} is no pair of a title and its sentences")
        pair = Entry({"title": item[0], "sentences": item[1]}, f"{record.where}, context {number}", record.remedy)
        title = pair.text("title")
        found.append((title, f"{title}\n{''.join(pair.texts('sentences', blank=True))}"))
    return found


def _titles(record: Entry) -> set[str]:
    facts = record.items("supporting_facts", default=(), empty=True)
    if not all(isinstance(fact, list) and fact and isinstance(fact[0], str) for fact in facts):
        raise record.error("'supporting_facts' holds something else than pairs of a title and a sentence's number")
    return {fact[0] for fact in facts}


READERS: dict[str, Callable[[Any, str], tuple[list[str], list[Question]]]] = {
    "squad": read_squad,
    "hotpotqa": read_hotpot,
}
