"""What a scorer returns, and how per-example numbers become one number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class Score:
    """Metrics of one example: fractions in [0, 1] or plain numbers (never NaN), what was parsed, and flags such as `empty`."""

    metrics: Mapping[str, float]
    parsed: Any = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """How per-example numbers become one number.

    `mean`: mean over examples of `metrics[name]`. `ratio`: sum of `metrics[num]` / sum of `metrics[den]`, then `transform`
    (for example perplexity = exp(sum nll / sum tokens)). `ratio` with `macro`: the mean over the suffixes `s` in `macro`
    of that ratio of `metrics[num@s]` and `metrics[den@s]`. An example that lacks the keys of a suffix is no part of it,
    and a suffix that no example has is left out of the mean. A denominator of 0 gives `undefined`; None: no value.
    """

    name: str
    kind: Literal["mean", "ratio"] = "mean"
    num: str = ""
    den: str = ""
    transform: Literal["identity", "exp"] = "identity"
    higher_is_better: bool = True
    percent: bool = True  # rendered x100 with two decimals
    macro: tuple[str, ...] = ()
    undefined: float | None = None
    shown: bool = True  # in the terminal's table, where the first metric of a task always stands
    judged: bool = True  # a change for the worse is a loss; False for descriptions (length, share of yes)
    companion: bool = False  # the headline says nothing without it, so tables show it beside


def as_metric(facts: Mapping[str, Any]) -> Metric:
    """A `Metric` from its stored dict; keys of a later version are ignored."""
    known = {f.name for f in fields(Metric)}
    values = {key: value for key, value in facts.items() if key in known}
    return Metric(**values | {"macro": tuple(values.get("macro", ()))})
