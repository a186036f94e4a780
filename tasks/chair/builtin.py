"""The normaliser that needs nothing: a token becomes a word of the vocabulary, or stays as it is.

It looks at the vocabulary first, so it makes neither the errors of a tagger (`seated` -> `seat` -> chair) nor those of a
singulariser (`bus` -> `bu`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from tasks.chair.tokens import tokens

IRREGULAR = {
    "women": "woman", "gentlemen": "gentleman", "policemen": "policeman", "servicemen": "serviceman",
    "children": "child", "grandchildren": "grandchild", "geese": "goose", "oxen": "ox", "mice": "mouse",
    "knives": "knife", "pocketknives": "pocketknife", "calves": "calf", "thieves": "thief", "busses": "bus",
}  # fmt: skip
MEN = {"men": "man"}  # WordNet keeps `men`, so the published numbers do not count it


def builtin(units: frozenset[str], count_men: bool = False) -> Callable[[str], list[str]]:
    """The function from a caption to its normalised tokens."""
    table = IRREGULAR | MEN if count_men else IRREGULAR

    @cache
    def word(token: str) -> str:
        if token in units:
            return token
        return next((form for form in _forms(token, table) if form in units), token)

    return lambda caption: [word(token) for token in tokens(caption)]


def _forms(token: str, table: dict[str, str]) -> Iterator[str]:
    """What a plural may be the plural of, likelier ones first. `-es` only where English has it: `skies` is no `ski`."""
    if token in table:
        yield table[token]
    if token.endswith("ies"):
        yield token[:-3] + "y"
    if token.endswith("ves"):
        yield token[:-3] + "f"
        yield token[:-3] + "fe"
    if token.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        yield token[:-2]
    if token.endswith("s") and not token.endswith("ss"):
        yield token[:-1]
