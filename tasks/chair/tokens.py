"""Captions to tokens without any library: like a treebank tokeniser where it matters, a lot simpler where it does not.

White space and `, . ; : ! ? " ( ) [ ] { } < > *` and typographic quotes end a token; the marks are tokens themselves (they count
for the length, and no pair of words reaches across them). `-` and `/` stay inside tokens, so do the marks of `3.5` and `10:30`.
`'s` and its kin are split off.
"""

from __future__ import annotations

import re

MARKS = re.escape(',.;:!?"()[]{}<>*“”„«»‘')
LETTER = rf"[^\s'{MARKS}]"
CLITIC = rf"'(?:s|re|ve|ll|d|m)(?!{LETTER})"
TOKEN = re.compile(rf"\d+(?:[.,:]\d+)+(?!{LETTER})|\.\.+|{CLITIC}|{LETTER}+(?:(?!{CLITIC})'{LETTER}+)*|\S")


def tokens(caption: str) -> list[str]:
    """The tokens of a caption in lower case.

    >>> tokens("The dog's ball, a 3.5 m cell-phone.")
    ['the', 'dog', "'s", 'ball', ',', 'a', '3.5', 'm', 'cell-phone', '.']
    """
    return TOKEN.findall(caption.lower().replace("’", "'"))
