"""Six ways in which the literature reads yes or no out of an answer. They disagree on the same text; see the README.

* official: AoiDragon/POPE `evaluate.py`.
* opera: shikiw/OPERA `pope_eval.py`; the same in PAI and VISTA.
* vcd: DAMO-NLP-SG/VCD `eval_pope.py`. What it reads depends on the label.
* lmms: lmms-eval `tasks/pope`.
* vlmevalkit: open-compass/VLMEvalKit `YOrN_Extraction`, without its optional judge.
* strict: ours.

Every policy takes an answer and the label and returns `yes`, `no` or `unknown`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

YES, NO, UNKNOWN = "yes", "no", "unknown"
_PUNCTUATION = (*';/[]"{}()=+\\_-><@`,?!',)
_PERIOD = re.compile(r"(?!<=\d)\.(?!\d)")  # as published: the first group was meant as a look-behind and is none
_MOST_PERIODS = 32  # the reference passes a flag where the count stands, which is this number
_FIRST = {"yes": YES, "yeah": YES, "yep": YES, "no": NO, "nope": NO, "none": NO}


def official(text: str, label: str = "") -> str:
    """The first sentence; `no` if `No`, `not` or `no` stands in it between single spaces, else `yes`."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return NO if {"No", "not", "no"} & set(words) else YES


def opera(text: str, label: str = "") -> str:
    """All sentences; `no` also for `NO` and for contractions."""
    words = text.replace(".", "").replace(",", "").split(" ")
    return NO if {"No", "not", "no", "NO"} & set(words) or any(w.endswith("n't") for w in words) else YES


def vcd(text: str, label: str) -> str:
    """The label, if it is a part of the text (`cannot` holds `no`), else its opposite."""
    return label if label in text.lower() else NO if label == YES else YES


def lmms(text: str, label: str = "") -> str:
    """`yes` or `no` and nothing else, in any case."""
    word = text.lower().strip()
    return word if word in (YES, NO) else UNKNOWN


def vlmevalkit(text: str, label: str = "") -> str:
    """One of the two words, and not the other."""
    words = set(_without_punctuation(text.lower()).split())
    return UNKNOWN if (YES in words) == (NO in words) else YES if YES in words else NO


def strict(text: str, label: str = "") -> str:
    """What the first word says; if it says nothing, `no` for a negation anywhere, else `unknown`."""
    plain = text.lower().replace("’", "'")
    first = re.search(r"[^\W\d_]+", plain)
    if first and first.group() in _FIRST:
        return _FIRST[first.group()]
    return NO if re.search(r"n't\b|\b(?:not|no)\b", plain) else UNKNOWN


def _without_punctuation(text: str) -> str:
    """VQA's rule: a mark beside a blank vanishes, one between letters becomes a blank, `1,000` lets all of them vanish."""
    number = re.search(r"\d,\d", text) is not None
    out = text
    for mark in _PUNCTUATION:
        beside = f"{mark} " in text or f" {mark}" in text
        out = out.replace(mark, "" if beside or number else " ")
    return _PERIOD.sub("", out, count=_MOST_PERIODS)


POLICIES: dict[str, Callable[[str, str], str]] = {
    "official": official,
    "opera": opera,
    "vcd": vcd,
    "lmms": lmms,
    "vlmevalkit": vlmevalkit,
    "strict": strict,
}
