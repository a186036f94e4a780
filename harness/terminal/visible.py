"""Text from outside made harmless for people's eyes: what is invisible or moves other text becomes a visible symbol.

A control character can rewrite what the terminal shows, a direction mark makes a name read backwards, half of a
surrogate pair ends the program that prints it. Whatever prints, passes this (`harness.terminal.printing`, the leaderboard).
Escaping for HTML, JSON, Markdown or CSV is the business of whoever writes those; this comes before it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Any

PICTURES = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)} | {0x7F: 0x2421}
JOINERS = (0x200C, 0x200D)  # several scripts and emoji need them
SUSPECT = re.compile(r"[^\n\t\x20-\x7e\xa1-\xac\xae-\u02ff\u0370-\u0482\u3040-\u9fff\uac00-\ud7a3]")
MARKS = r"[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
STACK = re.compile(f"({MARKS}{{4}}){MARKS}+")


def visible(text: Any) -> str:
    """`text` with controls, direction marks, other format characters and lone surrogates shown as symbols.

    Lines and tabs stay; stacks of more than four combining marks are cut, because they run over the text around them.

    >>> visible("a\\x00b\\u202ec")
    'a\u2400b\u27e6U+202E\u27e7c'
    """
    return STACK.sub(r"\1", SUSPECT.sub(lambda found: _shown(found[0]), str(text)))


def _shown(character: str) -> str:
    code = ord(character)
    if code in PICTURES:
        return chr(PICTURES[code])
    kind = unicodedata.category(character)
    if code in JOINERS or kind not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return character
    return f"\u27e6U+{code:04X}\u27e7"


def plain(text: Any) -> str:
    """`visible` text on one line.

    >>> plain(" two\\n\\tlines ")
    'two lines'
    """
    return visible(re.sub(r"\s+", " ", str(text)).strip())


def line(text: Any, limit: int = 400) -> str:
    """`plain` text of at most `limit` characters: labels and reasons."""
    short, total = cut(re.sub(r"\s+", " ", str(text)[: 4 * limit]).strip(), limit)
    return visible(short) + ("..." if total else "")


def component(text: Any, limit: int = 100) -> str:
    """`plain` text as one part of a path: no slash, at most about `limit` bytes; a digest stands for what was cut.

    >>> component("a/b\\x1b"), component("..")
    ('a_b\u241b', '_..')
    """
    name = re.sub(r"[/\\]", "_", plain(text))
    name = f"_{name}" if name.startswith(".") or not name else name
    data = name.encode()
    short = data[:limit].decode(errors="ignore")
    return f"{short}-{hashlib.sha256(data).hexdigest()[:8]}" if len(data) > limit else name


def spreadsheet(value: Any) -> Any:
    """A value for a CSV file: a text that no spreadsheet takes for a formula; numbers stay numbers.

    >>> spreadsheet("=1+1"), spreadsheet(-0.5), spreadsheet(None)
    ("'=1+1", -0.5, '')
    """
    if value is None or isinstance(value, int | float):
        return "" if value is None else value
    text = line(value, 1_500)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def cut(text: str, limit: int) -> tuple[str, int]:
    """The first `limit` characters, and the whole length if something was cut (else 0)."""
    return (text, 0) if len(text) <= limit else (text[:limit], len(text))
