"""The parameters of the POPE task, and the refusal of those that make no sense, each with the reason and a way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from harness.contracts.options import Length, Within
from harness.contracts.question import Dialogue
from harness.contracts.task import Task
from harness.disk.reading import is_file
from harness.errors import UserError, nearest
from tasks.coco import Source
from tasks.coco.source import absent
from tasks.pope import hub
from tasks.pope.loaders import files_of
from tasks.pope.parsing import POLICIES
from tasks.pope.questions import OTHER, SPLITS

WAYS = (
    "Give files (task.pope.source=files with task.pope.questions=FILE or task.pope.instances=FILE, and "
    "task.pope.images=FOLDER), or use generated scenes (task.pope.source=scenes), or a download (task.pope.source=hub)."
)
# How papers ask for a short answer; see the README for who uses which.
SUFFIXES = {
    "none": "",
    "one_word": " Please answer this question with one word.",
    "single_word": "\nAnswer the question using a single word or phrase.",
    "yes_no": " Please just answer yes or no.",
}
BAD_IMAGES = ("error", "skip")


@dataclass(frozen=True, kw_only=True)
class PopeParameters(Task):
    """Questions are built from annotations (scenes, `instances`) or loaded (`questions`, hub).

    With `chat` the questions that one set asks about one image are one conversation. `n_images` (None: all) and `k` (objects
    asked about, half of the questions) shape what is built; `scenes` is the number of generated images. `source` None: files
    where `questions` or `instances` are named, else scenes.
    """

    source: str | None = None
    scenes: Annotated[int, Within(0, 100_000)] = 60
    instances: str | Sequence[str] | None = None
    images: str | None = None
    questions: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None
    hub: str = "lmms-lab/POPE"
    n_images: int | None = None
    k: int = 3
    suffix: str = "single_word"
    max_new_tokens: Length = 16
    chat: bool = False
    policy: str = "official"
    bad_images: str = "error"
    compat_typo: bool = False

    def __post_init__(self) -> None:
        if self.chat:
            object.__setattr__(self, "asks", Dialogue)
        if self.source is None:
            object.__setattr__(self, "source", "files" if self.questions or self.instances else "scenes")

    @property
    def data(self) -> Source:
        """Where images and annotations come from."""
        return Source.of(self)

    def validate(self) -> None:
        check(self)


def check(task: PopeParameters) -> None:
    """Raise `UserError` for the first thing that is wrong."""
    _known("policy", task.policy, tuple(POLICIES))
    _known("bad_images", task.bad_images, BAD_IMAGES)
    if task.suffix not in SUFFIXES and task.suffix and not any(c.isspace() for c in task.suffix):
        hint = nearest(task.suffix, SUFFIXES)
        raise UserError(f"pope.suffix is {task.suffix!r}: {hint} A text of your own begins with a blank or newline.")
    for name, value in (("k", task.k), ("max_new_tokens", task.max_new_tokens), ("n_images", task.n_images)):
        if value is not None and value < 1:
            raise UserError(f"pope.{name} is {value}: give at least 1.")
    if task.source != "files" and (task.questions or task.instances):
        raise UserError(f"pope.source={task.source} reads no files, but questions or instances are given. {WAYS}")
    if task.source == "scenes" and task.images:
        raise UserError(
            "pope.images names a folder, but neither questions nor instances are given: generated scenes would be asked "
            f"about instead. {WAYS}"
        )
    task.data.check("pope", WAYS)
    if task.source == "files":
        _files(task)
    if task.source == "hub" and not hub.installed():
        raise UserError(f"pope.source=hub needs the package datasets: pip install 'heed[hub]'. {WAYS}")


def _known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"pope.{name} is {value!r}: {nearest(value, known)}")


def _files(task: PopeParameters) -> None:
    given = files_of(task.questions)
    if bool(given) == bool(task.instances):
        both = "both questions and instances" if given else "neither questions nor instances"
        raise UserError(f"pope.source=files has {both}: it needs one of them. {WAYS}")
    for split, path in given:
        if split not in (*SPLITS, OTHER):
            raise UserError(f"pope.questions names the split {split!r}: {nearest(split, (*SPLITS, OTHER))}")
        if not is_file(path):
            raise UserError(f"pope: {absent(path)}. {WAYS}")
