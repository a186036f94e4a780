"""The parameters of the chair task, and the refusal of those that make no sense, each with the reason and a way out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from harness.contracts.options import Length, Within
from harness.contracts.task import Task
from harness.disk.reading import is_file, is_folder, user_path
from harness.errors import UserError, nearest
from tasks.chair import lemma
from tasks.chair.folders import expand
from tasks.chair.normalise import NORMALISERS
from tasks.coco import Source
from tasks.coco.source import Paths, absent

PROMPTS = {
    "describe": "Please describe this image in detail.",  # OPERA, CCA, less-is-more
    "help": "Please help me describe the image in detail.",  # PAI, VISTA
}
WAYS = (
    "Three ways to get data: files in COCO's format (task.chair.source=files task.chair.instances=FILE "
    "task.chair.captions=FILE task.chair.images=FOLDER), generated scenes (task.chair.source=scenes), or captions that you "
    "have already (heed score). There is no hub data set of CHAIR; its files are the 2014 annotations and val images of COCO."
)


@dataclass(frozen=True, kw_only=True)
class ChairParameters(Task):
    """`n_images` images (None: all; `ids`: a file that lists them) and where they come from.

    `source` None means `files` where `instances` names some, else `scenes` (as many as `scenes` says). `prompt` is `describe`, `help`, or
    the text itself. See the README for the normalisers and for what counts as an object.
    """

    source: str | None = None
    scenes: Annotated[int, Within(0, 100_000)] = 60
    instances: Paths = None
    captions: Paths = None
    images: str | None = None
    ids: str | None = None
    n_images: int | None = None
    prompt: str = "describe"
    max_new_tokens: Length = 512
    normaliser: str = "builtin"
    count_men: bool = False
    synonyms: str | None = None
    allow_missing: bool = False
    unknown_categories: str = "error"
    bad_images: str = "error"
    image_id_key: str = "image_id"
    caption_key: str = "caption"

    def __post_init__(self) -> None:
        for name in ("instances", "captions"):
            object.__setattr__(self, name, expand(name, getattr(self, name)))
        for name in ("images", "ids", "synonyms"):
            value = getattr(self, name)
            object.__setattr__(self, name, str(user_path(value)) if value else None)
        if self.source is None:
            object.__setattr__(self, "source", "files" if self.instances else "scenes")
        if self.source == "files":  # no part of the identity then
            object.__setattr__(self, "scenes", 0)

    @property
    def data(self) -> Source:
        """Annotations, reference captions and images."""
        return Source.of(self, self.captions)

    def validate(self) -> None:
        check(self)


def check(task: ChairParameters) -> None:
    """Raise `UserError` for the first thing that is wrong. A folder of images is not needed to score captions."""
    _known("source", str(task.source), ("scenes", "files"))
    _known("normaliser", task.normaliser, NORMALISERS)
    _known("unknown_categories", task.unknown_categories, ("error", "ignore"))
    _known("bad_images", task.bad_images, ("error", "skip"))
    wanted = {"max_new_tokens": task.max_new_tokens, "n_images": task.n_images, "scenes": task.scenes}
    unused = {"n_images": task.n_images is None, "scenes": task.source == "files"}
    for name, value in wanted.items():
        if not unused.get(name) and (not isinstance(value, int) or value < 1):
            raise UserError(f"chair.{name} is {value!r}: give a whole number of at least 1.")
    if not task.prompt.strip():
        raise UserError("chair.prompt is empty: give describe, help, or the text of a prompt.")
    if task.prompt not in PROMPTS and not any(c.isspace() for c in task.prompt.strip()):
        hint = nearest(task.prompt, PROMPTS)
        raise UserError(f"chair.prompt is {task.prompt!r}: {hint} A text of your own has at least two words.")
    if task.count_men and task.normaliser != "builtin":
        fixed = {"singular": "always counts `men`", "lemma": "never does"}[task.normaliser]
        raise UserError(f"chair.count_men belongs to the normaliser builtin; {task.normaliser} {fixed}. Leave it out.")
    _files(task)
    if task.normaliser == "lemma":
        lemma.check()


def check_images(task: ChairParameters) -> None:
    """What is needed beyond `check` to show images to a model."""
    task.data.check("chair", WAYS)


def _files(task: ChairParameters) -> None:
    if task.source == "scenes" and (task.instances or task.captions or task.images):
        raise UserError(
            "chair.source is scenes, but files are named too: say task.chair.source=files, or leave them out."
        )
    if task.source == "files" and not (task.instances and task.captions):
        missing = "captions" if task.instances else "instances"
        raise UserError(f"chair.{missing} is not given; the ground truth needs both instances and captions. {WAYS}")
    if task.images and not is_folder(task.images):
        raise UserError(f"chair.images {task.images} is not a folder: name the one that holds the image files.")
    for path in task.data.files():
        if not is_file(path):
            hint = "; a folder stands for its ..._train2014.json and ..._val2014.json" if is_folder(path) else ""
            raise UserError(f"chair: {absent(path)}{hint}. {WAYS}")
    for name, listed in (("synonyms", task.synonyms), ("ids", task.ids)):
        if listed and not is_file(listed):
            raise UserError(f"chair.{name} {listed} is not a file: check the name, or leave it out.")


def _known(field: str, value: str, known: Iterable[str]) -> None:
    names = tuple(known)
    if value not in names:
        ways = f" {WAYS}" if field == "source" else ""
        raise UserError(f"chair.{field} is {value!r}: {nearest(value, names)}{ways}")
