"""The two kinds of errors: a user's mistake is a `UserError` (one paragraph, exit code 2); everything else is a bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can repair. The message is one paragraph: what, where, the nearest valid name, how to fix."""


class Unsupported(UserError):
    """A method that cannot serve this model, task or search, with the reason. In a matrix the other cells go on."""


class NotEngaged(UserError):
    """A method was attached and changed nothing: the cell fails, because its number would be the dense model's."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that names the closest valid names, for use inside an error message.

    >>> nearest("pwer", ["power", "dense"])
    "did you mean 'power'? Known: dense, power."
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."
