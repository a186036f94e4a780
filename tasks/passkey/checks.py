"""Refuse parameters of the passkey task that make no sense, each with the reason and a way out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.disk.reading import is_file, read_text
from harness.errors import UserError, nearest
from tasks.passkey.policies import POLICIES
from tasks.passkey.prompts import longlora_characters
from tasks.passkey.styles import STYLES

if TYPE_CHECKING:
    from tasks.passkey.task import Passkey

SHORTEST = 32  # tokens; below it not even the question fits
MOST_STEPS = 200  # LongLoRA steps of 1000 tokens; more is a token length given by mistake
ESSAY = "file of passkey.essay_path"
LEAST_LENGTH = {"grid": SHORTEST, "landmark": 0, "longlora": 0, "infinitebench": 1}


def check(task: Passkey) -> None:
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


def _lengths(task: Passkey) -> None:
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


def _filler(task: Passkey) -> None:
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
