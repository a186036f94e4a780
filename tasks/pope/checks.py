"""Refuse parameters of the POPE task that make no sense, each with the reason and a way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.disk.reading import is_file
from harness.errors import UserError, nearest
from tasks.coco.source import absent
from tasks.pope import hub
from tasks.pope.loaders import files_of
from tasks.pope.parsing import POLICIES
from tasks.pope.questions import OTHER, SPLITS

if TYPE_CHECKING:
    from tasks.pope.task import Pope

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


def check(task: Pope) -> None:
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


def _files(task: Pope) -> None:
    given = files_of(task.questions)
    if bool(given) == bool(task.instances):
        both = "both questions and instances" if given else "neither questions nor instances"
        raise UserError(f"pope.source=files has {both}: it needs one of them. {WAYS}")
    for split, path in given:
        if split not in (*SPLITS, OTHER):
            raise UserError(f"pope.questions names the split {split!r}: {nearest(split, (*SPLITS, OTHER))}")
        if not is_file(path):
            raise UserError(f"pope: {absent(path)}. {WAYS}")
