"""Option values against the annotations of the dataclass they are meant for: a wrong type or a senseless number is the
user's error, said at once.

Every number is finite and at most `MOST` in size. A field that is narrower, or for which infinity means something, says so
in its annotation: `Annotated[int, Within(1, 65536, "tokens of a block")]`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from math import isfinite
from typing import Annotated, Any, Literal, Union

from harness.errors import UserError

MOST = 2**31 - 1


@dataclass(frozen=True)
class Within:
    """The range of a numeric option, ends included, and what the number means."""

    low: float = -MOST
    high: float = MOST
    meaning: str = ""

    def holds(self, value: float) -> bool:
        """Never for NaN."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"from {self.low:.12g} to {self.high:.12g}"


# what several options count
Length = Annotated[int, Within(0, 2**24)]  # tokens; what is least, the task says itself
Samples = Annotated[int, Within(1, 100_000)]  # examples that are made, for each of what a task makes them for


def check_types(cls: Any, values: Mapping[str, Any], where: str) -> None:
    """Raise `UserError` for the first value that does not fit the field it is given for, or lies outside its range."""
    for key, value in values.items():
        hint, name = hints(cls)[key], f"{where}.{key}" if where else key
        if not fits(value, hint):
            example = f", for example {name}=[{value}]" if _is_list_of(hint, value) else ""
            raise UserError(f"{name}={shown(value)} does not fit: it must be {words(hint)}{example}.")
        if (number := outside(value, hint)) is not None:
            mark = next(_marks(hint), Within())
            meaning = mark.meaning or getattr(cls, "options", {}).get(key, "")
            told = f" Meaning of '{key}': {meaning}." if meaning else ""
            who = "it" if number is value else "every number in it"
            must = f"{_kind(hint)} {mark}" if mark != Within() or isfinite(number) else "a finite number"
            raise UserError(f"{name}={shown(value)} is out of range: {who} must be {must}.{told}")


@cache
def hints(cls: Any) -> dict[str, Any]:
    """Field name -> resolved annotation, with its range."""
    resolved = typing.get_type_hints(cls, include_extras=True)
    return {f.name: resolved[f.name] for f in fields(cls)}


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value (as a configuration holds it) is one of the annotated type. A whole number fits a float."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        return fits(value, args[0])
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


def outside(value: Any, hint: Any) -> float | None:
    """The first number in a value (it may hold lists and mappings) that lies outside its range."""
    marks = list(_marks(hint)) or [Within()]
    return next((n for n in _numbers(value) if not any(mark.holds(n) for mark in marks)), None)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _marks(hint: Any) -> Iterator[Within]:
    """The ranges in an annotation, wherever they stand in it."""
    if typing.get_origin(hint) is Annotated:
        yield from (mark for mark in hint.__metadata__ if isinstance(mark, Within))
    for part in typing.get_args(hint):
        if not isinstance(part, Within):
            yield from _marks(part)


def words(hint: Any) -> str:
    """The annotation in words.

    >>> words(int | None), words(Sequence[int] | int)
    ('a whole number or null', 'a list (of a whole number) or a whole number')
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return words(args[0])
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


def _kind(hint: Any) -> str:
    return "a number" if "whole number" not in words(hint) else "a whole number"


def _is_list_of(hint: Any, value: Any) -> bool:
    """Whether a list of this one value would fit: `tasks=hellaswag`, where `tasks=[hellaswag]` was meant."""
    return isinstance(value, str | int | float) and not isinstance(value, bool) and fits([value], hint)


def shown(value: Any) -> str:
    """As it is written on the command line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def number(name: str, low: float, high: float, meaning: str) -> Callable[[str], float]:
    """A reader of a numeric argument of a verb, for argparse; `UserError` for what is no number in the range."""

    def read(text: str) -> float:
        mark = Within(low, high)
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not mark.holds(value):
            raise UserError(f"{name}={text} is out of range: give a number {mark}. Meaning: {meaning}.")
        return value

    return read
