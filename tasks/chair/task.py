"""The CHAIR task: describe an image; objects in the description that are not in the image are hallucinated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts.example import Example, Skipped
from harness.contracts.metric import Metric, Score
from harness.contracts.question import Generate
from harness.contracts.tokens import Tokens
from harness.disk.reading import Entry
from harness.errors import UserError
from tasks.chair import lemma
from tasks.chair.choice import choose, read_ids
from tasks.chair.count import mentions, numbers
from tasks.chair.normalise import normaliser
from tasks.chair.parameters import PROMPTS, ChairParameters, check_images
from tasks.chair.truth import truth
from tasks.chair.vocabulary import read


def _ratio(name: str, num: str, den: str, higher_is_better: bool = True, companion: bool = False) -> Metric:
    """0/0 is 0: the references divide by zero."""
    return Metric(name, "ratio", num, den, undefined=0.0, higher_is_better=higher_is_better, companion=companion)


@dataclass(frozen=True, kw_only=True)
class Chair(ChairParameters):
    """Captions of images against annotations and reference captions."""

    title: ClassVar[str] = "captions: share of the named objects that the image does not hold"
    paper: ClassVar[str] = "1809.02156"
    licence: ClassVar[str] = (
        "vocabulary BSD-2-Clause; scenes generated; COCO annotations CC BY 4.0, images by their owners"
    )
    needs_images: ClassVar[bool] = True
    without_output: ClassVar[str] = "lower the coverage"
    folders: ClassVar[tuple[str, ...]] = ("images",)
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("chair_s", higher_is_better=False),
        _ratio("chair_i", "hallucinated", "nodes", higher_is_better=False),
        _ratio("recall", "covered", "truth", companion=True),  # chair falls when captions get shorter
        _ratio("f1", "covered_twice", "mentioned_and_truth"),
        _ratio("precision", "covered", "mentioned"),
        Metric("length", percent=False, judged=False, companion=True),
        Metric("coverage"),
    )

    @property
    def scorer(self) -> str:
        """Name and normaliser, stored with every result."""
        return f"chair/{self.normaliser}{'+men' if self.count_men else ''}"

    def data_files(self) -> tuple[Path, ...]:
        return (*self.data.files(), *(Path(path) for path in (self.ids, self.synonyms) if path))

    def provenance(self) -> Mapping[str, str]:
        """What scores, and what the images depend on (so there must be some)."""
        check_images(self)
        names = self.data.annotations().images
        return self.scoring() | self.data.provenance(names[i] for i in self._chosen() if i in names)

    def scoring(self) -> dict[str, str]:
        """The normaliser and the sha256 of the vocabulary, with the versions of NLTK and its data where they are used."""
        facts = {"normaliser": self.normaliser, "vocabulary": read(self.synonyms).sha256}
        return facts | (lemma.provenance() if self.normaliser == "lemma" else {})

    def size(self) -> tuple[int, int]:
        """Tokens of an image differ between models: only the new ones are counted."""
        count = len(self._chosen())
        return count, count * self.max_new_tokens

    def examples(self, tokens: Tokens) -> Iterator[Example | Skipped]:
        """One per image. Files are opened beforehand: a missing or broken one is an error, or skipped, by `bad_images`."""
        check_images(self)
        for example in self._examples(self._chosen()):
            try:
                if self.source == "files":
                    self.image(example.question.pictures[0])
            except UserError as error:
                if self.bad_images == "error":
                    raise UserError(
                        f"{error} Repair it, or leave such images out, counted, with task.chair.bad_images=skip."
                    ) from error
                yield Skipped(example.id, "the image is missing or broken", {"image_id": example.meta["image_id"]})
            else:
                yield example

    def examples_of(self, ids: Sequence[str]) -> list[Example]:
        """Examples for captions that exist already; no image is opened.

        Where the settings choose images (`ids`, `n_images`, scenes) and all captions are of such images, it is those: the
        ones without a caption lower the coverage. Otherwise the captions choose, except that with `ids` it is an error.
        """
        self.validate()
        given = sorted(self._image_id(name) for name in ids)
        if self.source == "files" and not self.ids and self.n_images is None:
            return list(self._examples(given))
        available = len(self.data.annotations().images)
        fitting = self if self.n_images is None else replace(self, n_images=min(self.n_images, available))
        chosen = fitting._chosen()
        outside = set(given) - set(chosen)
        if outside and self.ids:
            raise UserError(
                f"chair: there is a caption of the image {min(outside)}, which is not in the list {self.ids}."
            )
        return list(self._examples(given if outside else chosen))

    def score(self, example: Example, answer: str | None) -> Score:
        """Flags: `empty`, `no_node` (no object is named, so CHAIR says nothing), `no_truth` (the image has no known object).

        Without a text the caption does not exist: it counts for the coverage only.
        """
        if answer is None:
            return Score({"coverage": 0.0}, None, ("empty",))
        known, truth_nodes = read(self.synonyms), frozenset(example.meta.get("gt", ()))
        found = mentions(normaliser(self.normaliser, known, self.count_men)(answer), known)
        flags = {"empty": not answer.strip(), "no_node": not found.nodes, "no_truth": not truth_nodes}
        parsed = {"nodes": list(found.nodes), "hallucinated": [n for n in found.nodes if n not in truth_nodes]}
        metrics = {"coverage": 1.0, **numbers(found, truth_nodes)}
        return Score(metrics, parsed, tuple(flag for flag, stands in flags.items() if stands))

    def image(self, name: str) -> Any:
        return self.data.image(name)

    def export(self, folder: Path) -> list[Path]:
        return self.data.export(folder) or super().export(folder)

    def read_row(self, row: Mapping[str, Any], index: int) -> Example:
        """Our own layout. A row without ground truth is refused: every object would count as hallucinated."""
        example = Example.from_row(row)
        if "gt" not in example.meta:
            raise KeyError("meta.gt")
        meta = Entry(example.meta, "meta")
        # an image without known objects has an empty list, never null
        meta.items("gt", empty=True)
        meta.texts("gt", ())
        return example

    def read_output(self, row: Mapping[str, Any], index: int) -> Mapping[str, Any]:
        """Our own layout, or `{"image_id": ..., "caption": ...}` as the papers' scripts write it."""
        if "id" in row and "text" in row:
            return row
        number = row[self.image_id_key]
        name = int(number) if isinstance(number, float) and number.is_integer() else number
        return {**row, "id": name, "text": row[self.caption_key]}

    def figures(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
        from tasks.chair.figures import write

        return write(rows, folder)

    def _chosen(self) -> list[int]:
        images = self.data.annotations().images
        return read_ids(Path(self.ids)) if self.ids else choose(images, self.n_images, self.seed)

    def _examples(self, chosen: Sequence[int]) -> Iterator[Example]:
        annotations, references = self.data.annotations(), self.data.references()
        known = read(self.synonyms)
        normalise = normaliser(self.normaliser, known, self.count_men)
        ignore = self.unknown_categories == "ignore"
        for image in chosen:
            if image not in annotations.images:
                listed = f", which {self.ids} lists," if self.ids else ""
                raise UserError(
                    f"chair: the image {image}{listed} is not in the instances file(s). Name the file that holds it, or take the "
                    "image out of your list."
                )
            nodes = truth(image, annotations.objects, references, known, normalise, ignore, self.allow_missing)
            prompt, shown = PROMPTS.get(self.prompt, self.prompt), (annotations.images[image],)
            yield Example(
                id=str(image),
                question=Generate(prompt, images=shown, max_new_tokens=self.max_new_tokens),
                cluster=str(image),
                task="chair",
                meta={"image_id": image, "gt": nodes},
            )

    def _image_id(self, name: str) -> int:
        if not name.isdecimal():
            raise UserError(
                f"chair: '{name}' is no image id. Captions are matched to images by {self.image_id_key}, a number."
            )
        return int(name)
