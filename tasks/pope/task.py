"""The POPE task; see the README for the facts and their sources."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from harness.contracts.example import Example, Skipped
from harness.contracts.metric import Metric, Score
from harness.contracts.question import Dialogue, Generate
from harness.contracts.tokens import Tokens
from harness.disk.output import write_rows
from harness.disk.reading import Entry
from harness.errors import UserError
from tasks.coco import Source
from tasks.pope import build, hub, loaders
from tasks.pope.metrics import METRICS, counts, per_split
from tasks.pope.parameters import SUFFIXES, PopeParameters
from tasks.pope.parsing import POLICIES, UNKNOWN
from tasks.pope.questions import OTHER, SPLITS, Question, by_image, distinct
from tasks.pope.questions import per_split as by_split

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Pope(PopeParameters):
    """Is there a ... in the image? A question that stands in several of the three sets is asked once and counted in each."""

    title: ClassVar[str] = "is there a ... in the image: hallucinated objects by yes/no questions"
    paper: ClassVar[str] = "2305.10355"
    licence: ClassVar[str] = "generated scenes: that of this repository; question files MIT; COCO images: Flickr terms"
    needs_images: ClassVar[bool] = True
    folders: ClassVar[tuple[str, ...]] = ("images", "hub")
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    # half of the built questions are answered yes, in each set
    chance: ClassVar[Mapping[str, float]] = dict.fromkeys(["accuracy", *(f"accuracy_{split}" for split in SPLITS)], 0.5)
    unreadable: ClassVar[tuple[str, ...]] = ("unknown", "empty")

    @property
    def scorer(self) -> str:
        """Name and policy, stored with every result."""
        return f"pope/{self.policy}"

    def data_files(self) -> tuple[Path, ...]:
        given = tuple(path for _, path in loaders.files_of(self.questions)) if self.source == "files" else ()
        return (*self.data.files(), *given)

    def provenance(self) -> Mapping[str, str]:
        """Digests of the questions and of the images that they use, and what draws the generated ones."""
        questions = self.all_questions()
        rows = json.dumps([[q.image, q.text, q.label, q.split, q.number] for q in questions])
        if self.source == "hub":
            pixels = {"images": hub.load(self.hub).digest()}
        else:
            pixels = self.data.provenance(q.image for q in questions)
        return {"questions": hashlib.sha256(rows.encode()).hexdigest(), **pixels}

    def size(self) -> tuple[int, int]:
        """Tokens of an image differ between models: only the new ones are counted."""
        questions = self.all_questions()
        if self.chat:
            return len({(q.image, q.split) for q in questions}), len(questions) * self.max_new_tokens
        n = len(distinct(questions))
        return n, n * self.max_new_tokens

    def all_questions(self) -> tuple[Question, ...]:
        """Every row of every set; rows of equal content are still apart."""
        if self.source == "hub":
            return hub.load(self.hub).questions
        stamps = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in self.data_files())
        files = loaders.files_of(self.questions) if self.source == "files" else ()
        return _questions(self.data, files, stamps, self.seed, self.k, self.n_images, self.compat_typo)

    def examples(self, tokens: Tokens) -> Iterator[Example | Skipped]:
        """Image by image, so that any beginning covers all sets."""
        taken: dict[str, int] = {}
        for image, questions in by_image(self.all_questions()).items():
            reason = self._problem(image, questions[0])
            groups = list(by_split(questions).values()) if self.chat else distinct(questions)
            for group in groups:
                name = _unique(_stem(image) + (f"-{group[0].split}" if self.chat else _object(group[0].text)), taken)
                yield Skipped(name, reason, {"image": image}) if reason else self._example(name, image, group)

    def image(self, name: str) -> Image.Image:
        return hub.load(self.hub).image(name) if self.source == "hub" else self.data.image(name)

    def score(self, example: Example, answer: str | list[str] | None) -> Score:
        """Counts by set of one answer, or of all answers of a conversation. Without any each is unknown, so wrong.

        Flags: `empty`, `unknown`.
        """
        talks = isinstance(example.question, Dialogue)
        answers, flags = _answers(example, answer), set[str]()
        splits = [str(s) for s in example.meta.get("splits") or [example.split or OTHER]]
        read, found = [], []
        for label, text in zip(example.references, answers, strict=True):
            # no policy was made for an answer that does not exist: `official` would read yes, and be right half the time
            readers = (POLICIES[p] for p in (self.policy, "strict"))
            parsed, strict = (UNKNOWN if answer is None else reader(text, label) for reader in readers)
            read.append({self.policy: parsed, "strict": strict})
            found += [(split, counts(label, parsed, strict)) for split in splits]
            flags |= {name for name, stands in (("empty", not text.strip()), ("unknown", parsed == UNKNOWN)) if stands}
        return Score(per_split(found), read if talks else next(iter(read), None), tuple(sorted(flags)))

    def official_row(self, example: Example) -> dict[str, Any]:
        """The published keys, with the sets that the question belongs to; conversations have none."""
        if "question" not in example.meta:
            return {}
        meta = example.meta
        return {
            "question_id": meta["question_ids"][0], "image": meta["image"], "text": meta["question"],
            "label": example.references[0], "splits": list(meta["splits"]),
        }  # fmt: skip

    def read_row(self, row: Mapping[str, Any], index: int) -> Example:
        """Our own layout, or a row of a published question file (or of a single split that we exported)."""
        if "id" in row and "prompt" in row:
            if row.get("task") not in (None, "", "pope"):
                raise ValueError(f"it belongs to the task {row['task']}")
            example = Example.from_row(row, Dialogue if row.get("turns") else Generate)
            Entry(example.meta, "meta").texts("splits", ())
            return example
        split = row["category"] if row.get("category") in SPLITS else OTHER
        question = loaders.read(Entry(row), split, index + 1)
        return self._example(str(question.number), question.image, [question])

    def read_output(self, row: Mapping[str, Any], index: int) -> Mapping[str, Any]:
        """Our own layout; `question_id` with `text` or `answer`; or answers without a number in the file's order."""
        if "id" in row and "text" in row:
            return row
        name = Entry(row).name("question_id") if "question_id" in row else str(index + 1)
        text = row.get("text", row.get("answer"))
        found = {"id": name, "finish": row.get("finish")} | ({"text": text} if {"text", "answer"} & set(row) else {})
        return {key: value for key, value in found.items() if key != "finish" or value is not None}

    def export(self, folder: Path) -> list[Path]:
        """Scenes as COCO data, and one published-layout file for each set; for built questions their statistics too."""
        written = self.data.export(folder)
        for split, questions in by_split(self.all_questions()).items():
            path = folder / f"pope_{split}.jsonl"
            write_rows(path, (question.official() for question in questions))
            written.append(path)
        if self.source == "scenes" or self.instances:
            polled = build.poll(self.data.annotations(), Random(self.seed), self.k, self.n_images)
            for name, table in (("ground_truth_objects", polled.frequency), ("co_occur", polled.beside)):
                path = folder / f"pope_{name}.json"
                path.write_text(json.dumps(table) + "\n", encoding="utf-8")
                written.append(path)
        return written

    def figures(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
        from tasks.pope.figures import write

        return write(rows, folder)

    def _problem(self, image: str, question: Question) -> str:
        """Why an image cannot be used, '' if it can; looked at where it is a file or a download."""
        if self.source == "scenes":
            return ""
        try:
            self.image(image)
        except UserError as error:
            if self.bad_images == "error":
                raise UserError(
                    f"{question.origin}: {error} Repair it, or leave such questions out, counted, with "
                    "task.pope.bad_images=skip."
                ) from error
            return str(error).replace(f"{self.data.folder}/", "")
        return ""

    def _example(self, name: str, image: str, group: Sequence[Question]) -> Example:
        """`group`: copies of one question in several sets, or with `chat` the questions of one conversation."""
        asked = [q.text + SUFFIXES.get(self.suffix, self.suffix) for q in group]
        first = Generate(asked[0], images=(image,), max_new_tokens=self.max_new_tokens)
        splits = [group[0].split] if self.chat else [q.split for q in group]
        meta: dict[str, Any] = {"image": image, "splits": splits, "question_ids": [q.number for q in group]}
        meta |= {"questions": [q.text for q in group]} if self.chat else {"question": group[0].text}
        labels = [q.label for q in group] if self.chat else [group[0].label]
        return Example(
            id=name,
            question=Dialogue(**vars(first), turns=tuple(asked[1:])) if self.chat else first,
            references=tuple(labels),
            cluster=image,
            task="pope",
            split="+".join(dict.fromkeys(splits)),
            meta=meta,
        )


@lru_cache(maxsize=8)
def _questions(
    data: Source,
    files: tuple[tuple[str, Path], ...],
    stamps: tuple[tuple[int, int], ...],
    seed: int,
    k: int,
    n_images: int | None,
    typo: bool,
) -> tuple[Question, ...]:
    """Loaded or built once a process; `stamps` are the files' times and sizes."""
    if files:
        return tuple(question for split, path in files for question in loaders.load(split, path))
    return tuple(build.build(data.annotations(), seed, k, n_images, typo))


def _answers(example: Example, answer: str | list[str] | None) -> list[str]:
    """One text for each reference; what is missing is empty."""
    n = len(example.references)
    if isinstance(answer, list):
        return (answer + [""] * n)[:n]
    return [answer or ""] * (n if answer is None else min(n, 1))


def _stem(image: str) -> str:
    return str(PurePosixPath(image).with_suffix("")).replace("/", "-")


def _object(text: str) -> str:
    """`-dining-table` from the question about one, for readable ids; a digest for other wordings."""
    middle = text.removeprefix("Is there a").removeprefix("n").removesuffix(" in the image?").strip()
    plain = middle.replace(" ", "-").lower()
    short = len(middle) <= 40 and plain.replace("-", "").isalnum()
    return "-" + (plain if short else hashlib.sha256(text.encode()).hexdigest()[:8])


def _unique(name: str, taken: dict[str, int]) -> str:
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}-{taken[name]}"
