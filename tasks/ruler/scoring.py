"""RULER's two string metrics. Source: NVIDIA/RULER `scripts/eval/evaluate.py`,
`scripts/eval/synthetic/constants.py`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.contracts.metric import Score
from tasks.ruler.catalog import Metric

_CONTROL = re.compile(r"[\x00-\x1f]")


def postprocess(text: str | None) -> str:
    """Strip, turn every control character U+0000 to U+001F into a newline, strip again. Nothing else is normalised."""
    return _CONTROL.sub("\n", (text or "").strip()).strip()


def found(prediction: str, references: Sequence[str]) -> list[str]:
    """The references that occur in the prediction, ignoring case as `str.lower` does. A blank one never does: every
    text would hold it."""
    lowered = prediction.lower()
    return [reference for reference in references if reference.strip() and reference.lower() in lowered]


def string_match_all(prediction: str, references: Sequence[str]) -> float:
    """Share of the references that occur in the prediction."""
    return len(found(prediction, references)) / len(references)


def string_match_part(prediction: str, references: Sequence[str]) -> float:
    """1.0 if any reference occurs in the prediction."""
    return float(bool(found(prediction, references)))


def score(text: str | None, references: Sequence[str], metric: Metric) -> Score:
    """`score` and `null` of one output. Flags: `empty` output, `no_reference` (scores 0, where the reference
    raises)."""
    prediction = postprocess(text)
    flags = [] if prediction else ["empty"]
    value = 0.0
    if references:
        value = (string_match_all if metric == "all" else string_match_part)(prediction, references)
    else:
        flags.append("no_reference")
    return Score({"score": value, "null": float(not prediction)}, found(prediction, references), tuple(flags))
