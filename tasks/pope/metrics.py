"""What POPE reports: per-question counts by split, and the ratios that they add up to.

Positive class: yes (arXiv 2305.10355, section 5.2). A headline number is the mean of the splits' numbers. Where
precision, recall or F1 would be 0/0 it is 0 (the reference raises). An `unknown` answer is wrong: it is neither yes nor
no, but its question still counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from harness.contracts.metric import Metric
from tasks.pope.parsing import UNKNOWN, YES
from tasks.pope.questions import OTHER, SPLITS

# name, numerator, denominator, value of 0/0
RATIOS: tuple[tuple[str, str, str, float | None], ...] = (
    ("accuracy", "correct", "asked", None),
    ("f1", "f1_num", "f1_den", 0.0),
    ("precision", "hits", "said_yes", 0.0),
    ("recall", "hits", "positives", 0.0),
    ("yes_ratio", "said_yes", "asked", None),
    ("unknown", "unknown", "asked", None),
    ("disagreement", "disagree", "asked", None),
)
PER_SPLIT = ("accuracy", "f1", "yes_ratio", "precision", "recall")
HIDDEN = ("precision", "recall")  # from the terminal's table; they are stored like the others


def _metric(name: str, num: str, den: str, undefined: float | None, splits: tuple[str, ...], base: str) -> Metric:
    lower = base in ("unknown", "disagreement")
    shown = base not in HIDDEN
    return Metric(
        name, "ratio", num, den, macro=splits, undefined=undefined, shown=shown, higher_is_better=not lower,
        judged=base not in ("yes_ratio", "disagreement"),
    )  # fmt: skip


METRICS: tuple[Metric, ...] = (
    *(_metric(name, num, den, zero, (*SPLITS, OTHER), name) for name, num, den, zero in RATIOS),
    *(
        _metric(f"{name}_{split}", num, den, zero, (split,), name)
        for split in SPLITS
        for name, num, den, zero in RATIOS
        if name in PER_SPLIT
    ),
)


def counts(label: str, parsed: str, strict: str) -> dict[str, int]:
    """What one answer adds to each count; `strict` is the answer as the policy of that name reads it."""
    positive, said = label == YES, parsed == YES
    hit = positive and said
    found = {
        "asked": True, "correct": parsed == label, "hits": hit, "said_yes": said, "positives": positive,
        "unknown": parsed == UNKNOWN, "disagree": parsed != strict,
    }  # fmt: skip
    return {**{key: int(value) for key, value in found.items()}, "f1_num": 2 * hit, "f1_den": said + positive}


def per_split(answers: Iterable[tuple[str, dict[str, int]]]) -> dict[str, float]:
    """Sums of (split, counts) as `count@split`."""
    sums: Counter[str] = Counter()
    for split, found in answers:
        sums.update({f"{key}@{split}": value for key, value in found.items()})
    return {key: float(value) for key, value in sums.items()}
