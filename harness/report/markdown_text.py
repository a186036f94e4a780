"""Text from outside as Markdown shows it: no character in it means anything."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from harness.terminal.visible import line


def table_row(texts: Iterable[str]) -> str:
    """A line of a table; the texts are escaped by then."""
    return f"| {' | '.join(texts)} |"


def escape(text: str) -> str:
    """One line in which no character means Markdown or HTML.

    >>> escape("a|b <script> *c*")
    'a\\\\|b &lt;script&gt; \\\\*c\\\\*'
    """
    plain = html.escape(line(text, 2_000), quote=False)
    return re.sub(r"([\\`*_\[\]|~#!]|(?<=:)/(?=/))", r"\\\1", plain)  # the last one: no address becomes a link


def code(text: str) -> str:
    """Text inside backticks."""
    return re.sub(r"[`|<>&]", "", line(text, 80))
