"""Files that come from outside, read in one way: every mistake in one is a `UserError` that names file, row and key.

A loader says what it wants (`entry.text("question")`) and never looks at types itself. What is refused here, with the
reason: what is missing, a folder, or no regular file (a pipe without a writer would be waited for without end), text
that is not UTF-8, JSON that is broken or nests too deep for the code behind it, values of another type, empty ones,
numbers that are not finite. Standard library only, so that records, models and tasks can all use it.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError

DEEPEST = 100  # levels of nesting; code that walks through JSON recurses, and no layout that heed reads has ten
STDIN = (Path("/dev/stdin"), Path("/dev/fd/0"))
KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip
MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
NAMES: dict[type, str] = {
    str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object",
    type(None): "null",
}  # fmt: skip
LARGEST_WHOLE = 2**63  # whole numbers beyond are no ids, sizes or counts


# -- names -----------------------------------------------------------------------------------------------------------


def user_path(name: str) -> Path:
    """A path as a user writes it: `~` is the home folder (`~nobody` stays what it is, `Path.expanduser` would raise)."""
    return Path(os.path.expanduser(name))


def is_file(path: Path | str) -> bool:
    """Whether there is a regular file; False, never an exception, for a name that no file can have (too long, a zero byte)."""
    return os.path.isfile(path)


def is_folder(path: Path | str) -> bool:
    """Whether there is a folder; False for a name that none can have."""
    return os.path.isdir(path)


# -- bytes and text --------------------------------------------------------------------------------------------------


def regular(path: Path, what: str = "file", stdin: bool = False) -> None:
    """`UserError` unless `path` is a file that can be read to its end. `what` names it ("examples file").

    With `stdin`, /dev/stdin is one, whatever stands behind it: whoever reads it once and says so can.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise unreadable(path, what, error) from error
    if not stat.S_ISREG(mode) and not (stdin and path in STDIN and not stat.S_ISDIR(mode)):
        kind = KINDS.get(stat.S_IFMT(mode), "no regular file")
        more = "name the file in it" if stat.S_ISDIR(mode) else "write its content to a file first and name that"
        raise UserError(f"The {what} {path} is {kind}, not a file: {more}.")


def unreadable(path: Path, what: str, error: Exception) -> UserError:
    """The sentence for a file that the operating system does not give."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"The {what} {path} does not exist. Check the name, or write it first.")
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return UserError(f"The {what} has a longer name than the system allows: {str(path)[:40]}...{str(path)[-40:]}")
    return UserError(f"The {what} {path} cannot be read ({getattr(error, 'strerror', None) or error}).")


def read_bytes(path: Path, what: str = "file", stdin: bool = False) -> bytes:
    """The content of a regular file."""
    regular(path, what, stdin)
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, what, error) from error


def read_text(path: Path, what: str = "file", stdin: bool = False) -> str:
    """The text of a UTF-8 file, without a byte order mark and with `\\n` as the end of every line."""
    return decoded(read_bytes(path, what, stdin), f"The {what} {path}")


def decoded(data: bytes, where: str) -> str:
    """Bytes as UTF-8 text. `where` names them in the error, with the place and the likely encoding."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        likely = MARKS.get(data[:2])
        hint = f"it looks like {likely}" if likely else f"{error.reason} at byte {error.start}"
        raise UserError(f"{where} is not UTF-8 text ({hint}). Save it as UTF-8.") from error
    zero = text.find("\0")
    if zero >= 0:
        raise UserError(f"{where} is not text (there is a zero byte at character {zero}). Save it as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


# -- JSON ------------------------------------------------------------------------------------------------------------


def parsed(text: str | bytes, where: str, remedy: str = "") -> Any:
    """The value of a JSON text; at most `DEEPEST` levels of it. `where` begins the error, `remedy` ends it."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise _refused(where, f"nests deeper than {DEEPEST} levels", remedy) from error
    except ValueError as error:
        why = "a number has thousands of digits" if "integer string conversion" in str(error) else str(error)
        raise _refused(where, f"is not JSON ({why})", remedy) from error
    if too_deep(value):
        raise _refused(where, f"nests deeper than {DEEPEST} levels", remedy)
    return value


def too_deep(value: Any, deepest: int = DEEPEST) -> bool:
    """Whether lists and objects stand inside each other more than `deepest` times. Level by level: it does not recurse."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(deepest):
        if not level:
            return False
        level = [
            part
            for outer in level
            for part in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(part, dict | list)
        ]
    return bool(level)


def read_value(path: Path, what: str = "file", remedy: str = "") -> Any:
    """The value in a JSON file."""
    return parsed(read_text(path, what), f"The {what} {path}", remedy)


def read_object(path: Path, what: str = "file", remedy: str = "") -> Entry:
    """The object in a JSON file."""
    return as_entry(read_value(path, what, remedy), f"The {what} {path}", remedy)


def read_entries(path: Path, what: str = "file", stdin: bool = False) -> list[Entry]:
    """The objects of a JSON-lines file, or of one JSON list, each with its line (or entry) number from 1.

    Blank lines are passed over. A file without any object is refused.
    """
    text = read_text(path, what, stdin)
    listed = text.lstrip().startswith("[")
    rows = list(entries_of(parsed(text, str(path)), str(path)) if listed else _lines(text, str(path)))
    if not rows:
        raise UserError(f"The {what} {path} is empty: it must hold one JSON object per line.")
    return rows


def _lines(text: str, where: str) -> Iterator[Entry]:
    """Only a line feed ends a line: other separators may stand inside a JSON text."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{where}, line {number}"
            yield as_entry(parsed(line, place, "Write one object per line."), place, at=number)


def entries_of(values: Sequence[Any], where: str, remedy: str = "", name: str = "entry") -> Iterator[Entry]:
    """The objects of a list, numbered from 1."""
    for number, value in enumerate(values, start=1):
        yield as_entry(value, f"{where}, {name} {number}".lstrip(", "), remedy, number)


def as_entry(value: Any, where: str, remedy: str = "", at: int = 0) -> Entry:
    """A JSON object with its place; `UserError` for any other value."""
    if not isinstance(value, dict):
        raise _refused(where, f"holds {named(value)}, not an object", remedy or "Write {...} with named keys.")
    return Entry(value, where, remedy, at)


def named(value: Any) -> str:
    """A JSON value as a sentence names it.

    >>> named(7), named(None), named([1, 2])
    ('a number (7)', 'null', 'a list')
    """
    kind = NAMES.get(type(value), type(value).__name__)
    shown = value if isinstance(value, bool | int | float | str) else None
    return kind if shown is None or (isinstance(value, str) and not value.strip()) else f"{kind} ({str(shown)[:40]})"


def _refused(where: str, why: str, remedy: str) -> UserError:
    return UserError(f"{where} {why}.{' ' if remedy else ''}{remedy}")


# -- values of an object ---------------------------------------------------------------------------------------------

_REQUIRED: Any = object()


@dataclass(frozen=True)
class Entry:
    """An object from outside: `where` it stands ("answers.jsonl, line 3") and the `remedy` that ends each error.

    Every reader takes a key, and raises a `UserError` that names it unless the value has the type. `default` is for a
    key that is missing or null.
    """

    values: Mapping[str, Any]
    where: str = ""
    remedy: str = ""
    at: int = 0  # its line, or its place in a list, from 1

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def error(self, why: str) -> UserError:
        """What is wrong with this entry: `why` goes on after its place."""
        return UserError(f"{self.where}{': ' if self.where else ''}{why}.{' ' if self.remedy else ''}{self.remedy}")

    def text(self, key: str, default: Any = _REQUIRED, blank: bool = False) -> str:
        """A text with something in it (`blank`: or nothing)."""
        value = self._value(key, str, "a text", default)
        if isinstance(value, str) and value is not default:
            if not blank and not value.strip():
                raise self.error(f"'{key}' is {'blank' if value else 'empty'}")
            if not _encodes(value):
                raise self.error(f"'{key}' holds half of a surrogate pair, which no text can")
        return value

    def name(self, key: str) -> str:
        """What something is called: a text, or a whole number as one."""
        value = self.values.get(key)
        return str(self.whole(key)) if isinstance(value, int) and not isinstance(value, bool) else self.text(key)

    def texts(self, key: str, default: Any = _REQUIRED, blank: bool = False) -> tuple[str, ...]:
        """A list of texts. Without a `default` it is not empty."""
        each = self._each(key, default)
        return tuple(each.text(name, blank=blank) for name in each.values)

    def wholes(self, key: str, default: Any = _REQUIRED) -> tuple[int, ...]:
        """A list of whole numbers. Without a `default` it is not empty."""
        each = self._each(key, default)
        return tuple(each.whole(name) for name in each.values)

    def _each(self, key: str, default: Any) -> Entry:
        """The items of a list under names that errors can use."""
        items = self.items(key, default, empty=default is not _REQUIRED)
        return Entry({f"{key} {n}": item for n, item in enumerate(items, start=1)}, self.where, self.remedy)

    def whole(self, key: str, default: Any = _REQUIRED) -> int:
        """A whole number of at most 64 bits: neither 1.5 nor true."""
        value = self._value(key, int, "a whole number", default)
        if value is not default and not -LARGEST_WHOLE <= value < LARGEST_WHOLE:
            raise self.error(f"'{key}' is a number of more than 64 bits")
        return value

    def flag(self, key: str, default: Any = _REQUIRED) -> bool:
        """True or false."""
        return self._value(key, bool, "true or false", default)

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """A finite number."""
        value = self._value(key, int | float, "a number", default)
        if value is default:
            return value
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if not math.isfinite(found):
            raise self.error(f"'{key}' is {found}, not a finite number")
        return found

    def items(self, key: str, default: Any = _REQUIRED, empty: bool = False) -> list[Any]:
        """A list that is not empty (`empty`: or is)."""
        value = self._value(key, list, "a list", default)
        if not empty and value is not default and not value:
            raise self.error(f"the list '{key}' is empty")
        return value

    def inner(self, key: str, default: Any = _REQUIRED) -> Entry:
        """An object inside this one."""
        return Entry(self._value(key, Mapping, "an object", default), f"{self.where}, {key}".lstrip(", "), self.remedy)

    def entries(self, key: str, default: Any = _REQUIRED, empty: bool = False) -> list[Entry]:
        """A list of objects; each is named by its key and its number from 1."""
        items = self.items(key, default, empty)
        return items if items is default else list(entries_of(items, self.where, self.remedy, key))

    def _value(self, key: str, kind: Any, words: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None and default is not _REQUIRED:
            return default
        if key not in self.values:
            raise self.error(f"the key '{key}' is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"'{key}' is {named(value)}, not {words}")
        return value


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
