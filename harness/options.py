"""Option values against the annotations of the dataclass they are meant for: a wrong type is the user's error, said at once."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Literal, Union

from harness.errors import UserError


def check_types(cls: Any, values: Mapping[str, Any], where: str) -> None:
    """Raise `UserError` for the first value that does not fit the field it is given for."""
    for key, value in values.items():
        hint = hints(cls)[key]
        if not fits(value, hint):
            raise UserError(f"{where}.{key}={shown(value)} does not fit: it must be {words(hint)}.")


@cache
def hints(cls: Any) -> dict[str, Any]:
    """Field name -> resolved annotation."""
    resolved = typing.get_type_hints(cls)
    return {f.name: resolved[f.name] for f in fields(cls)}


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value (as a configuration holds it) is one of the annotated type. A whole number fits a float."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in args)
    if origin is Literal:
        return value in args
    if hint is type(None) or hint is None:
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        return not isinstance(value, bool) and isinstance(value, int if hint is int else int | float)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(fits(v, args[0]) for v in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(fits(v, args[1]) for v in value.values())
    return isinstance(value, hint) if isinstance(hint, type) else True


def words(hint: Any) -> str:
    """The annotation in words.

    >>> words(int | None), words(Sequence[int] | int)
    ('a whole number or null', 'a list (of a whole number) or a whole number')
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(words(part) for part in args)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (list, tuple, Sequence):
        return f"a list (of {words(args[0])})"
    if origin in (dict, Mapping):
        return "a mapping"
    plain = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    return plain.get(hint, str(getattr(hint, "__name__", hint)))


def shown(value: Any) -> str:
    return "null" if value is None else str(value)
