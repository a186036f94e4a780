"""The normaliser of the original CHAIR: every token becomes what a rule-based singulariser makes of it.

The original calls `singularize` of the library `pattern` (clips/pattern, `pattern/text/en/inflect.py`), which current Python versions
cannot install. These are its rules as far as they can make or break a word of the vocabulary, errors included: `bus` -> `bu`,
`glass` -> `glas`, `ties` -> `ty`, `canoes` -> `cano`, `collies` stays. Rules that only touch other words are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from tasks.chair.tokens import tokens

KEPT = ("scissors", "collies", "doggies")
IRREGULAR = {
    "children": "child", "men": "man", "people": "person", "geese": "goose", "oxen": "ox", "kine": "cow",
    "leaves": "leaf", "loaves": "loaf", "axes": "axe",
}  # fmt: skip
# The first ending that fits is replaced. A look-behind is what must stand before it.
ENDINGS = tuple(
    (re.compile(pattern + "$"), replacement)
    for pattern, replacement in (
        (r"(?<=[octpvir])i", "us"),
        (r"(?<=o)es", ""),
        (r"(?<=bus)es", ""),
        (r"(?<=[ml])ice", "ouse"),
        (r"(?:(?<=x)|(?<=ch)|(?<=ss)|(?<=sh))es", ""),
        (r"(?<=[^aeiouy])ies", "y"),
        (r"(?:(?<=[aeo]l)|(?<=[^d]ea))ves", "f"),
        (r"(?<=[nlw]i)ves", "fe"),
        (r"(?<=[lr])ves", "f"),
        (r"(?<=[aeo])ves", "ve"),
        (r"(?:(?<=si)|(?<=ti)|(?<=hi))ves", "ve"),
        (r"(?<=[^f])ves", "fe"),
        (r"(?<=ba)ses", "sis"),
        (r"(?<=.y)ses", "sis"),
        (r"(?<=[ti])a", "um"),
        (r"s", ""),
    )
)


@cache
def singular(token: str) -> str:
    """What the singulariser makes of a lower-case token, right or wrong."""
    if token in KEPT:
        return token
    for plural, one in IRREGULAR.items():
        if token.endswith(plural):
            return token[: -len(plural)] + one
    for ending, replacement in ENDINGS:
        changed, count = ending.subn(replacement, token)
        if count:
            return changed
    return token


def by_rules() -> Callable[[str], list[str]]:
    """The function from a caption to its normalised tokens."""
    return lambda caption: [singular(token) for token in tokens(caption)]
