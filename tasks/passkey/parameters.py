"""The parameters of the passkey task, and the refusal of those that make no sense, each with the reason and a way out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.contracts.options import Length, Samples
from harness.contracts.task import Task
from harness.disk.reading import is_file, read_text
from harness.errors import UserError, nearest
from tasks.passkey.policies import POLICIES
from tasks.passkey.prompts import longlora_characters
from tasks.passkey.styles import STYLES

SHORTEST = 32  # tokens; below it not even the question fits
MOST_STEPS = 200  # LongLoRA steps of 1000 tokens; more is a token length given by mistake
ESSAY = "file of passkey.essay_path"
EXTRA_TOKENS = 8  # beyond the digits of a grid key: room for a few words around it and for byte tokenizers
LEAST_LENGTH = {"grid": SHORTEST, "landmark": 0, "longlora": 0, "infinitebench": 1}


@dataclass(frozen=True, kw_only=True)
class PasskeyParameters(Task):
    """None stands for the style's own setting (:mod:`tasks.passkey.styles`).

    `lengths` counts tokens (grid), characters of filler (landmark), steps of 1000 tokens (longlora) or lines of filler
    (infinitebench). `depths` are percent of the filler before the needle. `trials` are repetitions per cell.
    """

    style: str = "grid"
    lengths: Sequence[Length] | None = None
    depths: Sequence[float] | None = None
    trials: Samples | None = None
    digits: int = 5
    filler: str = "noise"
    essay_path: str | None = None
    policy: str | None = None
    max_new_tokens: Length | None = None

    def __post_init__(self) -> None:
        style = STYLES.get(self.style, STYLES["grid"])  # `validate` refuses an unknown one
        lengths = style.lengths if self.lengths is None else self.lengths
        depths = style.depths if self.depths is None else self.depths
        object.__setattr__(self, "lengths", (lengths,) if isinstance(lengths, int) else tuple(lengths))
        object.__setattr__(self, "essay_path", str(Path(self.essay_path)) if self.essay_path else None)
        if depths is not None:
            several = (depths,) if isinstance(depths, int | float) else depths
            depths = tuple(int(d) if float(d).is_integer() else d for d in several)
        object.__setattr__(self, "depths", depths)
        object.__setattr__(self, "trials", style.trials if self.trials is None else self.trials)
        object.__setattr__(self, "policy", style.policy if self.policy is None else self.policy)
        if self.max_new_tokens is None and isinstance(self.digits, int):
            own = self.digits + EXTRA_TOKENS if self.style == "grid" else style.max_new_tokens
            object.__setattr__(self, "max_new_tokens", own)

    def validate(self) -> None:
        check(self)


def check(task: PasskeyParameters) -> None:
    """Raise `UserError` for the first thing that is wrong."""
    _known("style", task.style, STYLES)
    _known("policy", str(task.policy), POLICIES)
    _known("filler", task.filler, ("noise", "essay"))
    if not isinstance(task.digits, int) or not 4 <= task.digits <= 64:
        raise UserError(f"passkey.digits is {task.digits!r}: a key has 4 to 64 digits.")
    for name, value in (("trials", task.trials), ("max_new_tokens", task.max_new_tokens)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(f"passkey.{name} is {value}: give at least 1, or null for the style's own number.")
    _lengths(task)
    _depths(task.depths)
    _filler(task)


def _known(field: str, value: str, known: Iterable[str]) -> None:
    names = tuple(known)
    if value not in names:
        raise UserError(f"passkey.{field} is {value!r}: {nearest(value, names)}")


def _lengths(task: PasskeyParameters) -> None:
    lengths, unit, least = tuple(task.lengths or ()), STYLES[task.style].unit, LEAST_LENGTH[task.style]
    if not lengths or len(set(lengths)) != len(lengths):
        raise UserError(f"passkey.lengths is {list(lengths)}: give at least one length, and each only once.")
    for length in lengths:
        if not isinstance(length, int) or length < least:
            raise UserError(f"passkey.lengths holds {length} {unit}: style {task.style} needs at least {least}.")
        if task.style == "longlora" and (longlora_characters(length) == 0 or length > MOST_STEPS):
            raise UserError(
                f"passkey.lengths holds {length}: style longlora counts steps of 1000 tokens, 1 to 32 in the paper "
                f"(0 has no filler to draw a position in). Give such steps, or passkey.lengths=null for the paper's."
            )


def _depths(depths: Sequence[float] | None) -> None:
    if depths is None:
        return
    if not depths or len(set(depths)) != len(depths) or not all(0 <= depth <= 100 for depth in depths):
        raise UserError(f"passkey.depths is {list(depths)}: give percentages from 0 to 100, each only once.")


def _filler(task: PasskeyParameters) -> None:
    if task.filler == "noise":
        if task.essay_path:
            raise UserError("passkey.essay_path is set but passkey.filler is noise: add passkey.filler=essay.")
        return
    if task.style != "grid":
        raise UserError(f"passkey.style {task.style} prescribes the noise filler: use passkey.style=grid for essays.")
    if not task.essay_path:
        return
    path = Path(task.essay_path)
    if not is_file(path):
        raise UserError(f"passkey.essay_path {path} is not a file: name a text file, or null for the built-in essays.")
    text = read_text(path, ESSAY)
    if not text.strip() or "pass key" in text.lower():
        reason = "speaks of a pass key itself" if text.strip() else "is empty"
        raise UserError(f"passkey.essay_path {path} {reason}: choose another text.")
