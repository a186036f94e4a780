"""The five kinds of claims: a finding against what is expected. Pure functions of two records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.claims.words import Claim
from harness.contracts.check import Finding

Judgement = tuple[bool, str]  # whether it holds, and why not (or what to know although it does)


def judge(claim: Claim, found: Finding) -> Judgement:
    """Whether `found` is what `claim` says."""
    holds, why = _JUDGES[claim.kind](claim, found)
    return holds, "; ".join(text for text in (why, found.note) if text)


def _exact(claim: Claim, found: Finding) -> Judgement:
    return equal(found.value, claim.expected, claim.digits), ""


def _bound(claim: Claim, found: Finding) -> Judgement:
    ends = [x for x in (found.low, found.high) if x is not None]
    for value in [*numbers(found.value), *ends]:
        if not _inside(claim, value):
            return False, "" if value not in ends else "its interval crosses the bound"
    return True, ""


def _direction(claim: Claim, found: Finding) -> Judgement:
    """A list must be strictly ordered; a difference must have the sign and exclude chance."""
    sign = 1 if claim.expected == "up" else -1
    if isinstance(found.value, Sequence):
        steps = [b - a for a, b in zip(found.value, found.value[1:], strict=False)]
        return bool(steps) and all(sign * step > 0 for step in steps), ""
    if sign * found.value <= 0:
        return False, "the difference has the other sign" if found.value else "there is no difference"
    if found.significant is False:
        return False, "the difference has this sign, but could be chance"
    return True, ""


def _band(claim: Claim, found: Finding) -> Judgement:
    tolerance = claim.tolerance or 0.0
    low, high = (end if end is not None else found.value for end in (found.low, found.high))
    near = low <= claim.expected + tolerance and high >= claim.expected - tolerance
    return bool(near), ""


def _slope(claim: Claim, found: Finding) -> Judgement:
    if len({x for x, _ in found.points}) < 2:
        return False, "fewer than two lengths"
    slope = exponent(found.points)
    if claim.expected in ("up", "down"):
        return slope > 0 if claim.expected == "up" else slope < 0, ""
    if claim.expected is not None:
        return abs(slope - claim.expected) <= (claim.tolerance or 0.0), ""
    return _inside(claim, slope), ""


_JUDGES: dict[str, Callable[[Claim, Finding], Judgement]] = {
    "exact": _exact,
    "bound": _bound,
    "direction": _direction,
    "band": _band,
    "slope": _slope,
}


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """b of the least-squares line log y = a + b log x. If a value is not positive: the slope of y over log x (only its
    sign means something then).
    """
    logs = all(y > 0 for _, y in points)
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) if logs else y for _, y in points]
    x_mean, y_mean = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    above = math.fsum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return above / math.fsum((x - x_mean) ** 2 for x in xs)


def _inside(claim: Claim, value: float) -> bool:
    """NaN is inside nothing."""
    low = -math.inf if claim.at_least is None else claim.at_least
    high = math.inf if claim.at_most is None else claim.at_most
    return low <= value <= high


def equal(a: Any, b: Any, digits: int | None) -> bool:
    """Equality of plain values; numbers after rounding `a` to `digits`."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return {str(k) for k in a} == {str(k) for k in b} and all(
            equal(a[k], value, digits) for k, value in b.items() if k in a
        )
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(x, y, digits) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, int | float) and digits is not None:
        return math.isclose(round(a, digits), b, rel_tol=0, abs_tol=1e-9)
    return bool(a == b)


def numbers(value: Any) -> list[float]:
    """All numbers in a plain value."""
    if isinstance(value, Mapping):
        return [x for part in value.values() for x in numbers(part)]
    if isinstance(value, list | tuple):
        return [x for part in value for x in numbers(part)]
    return [float(value)]


# ------------------------------------------------------------------------------------------------------------- in words


def expectation(claim: Claim) -> str:
    """What is expected, in a few characters."""
    within = f" +- {short(claim.tolerance)}" if claim.tolerance else ""
    if claim.expected is not None:
        return f"{'slope ' if claim.kind == 'slope' else ''}{short(claim.expected)}{within}"
    ends = [f"{sign} {short(x)}" for sign, x in ((">=", claim.at_least), ("<=", claim.at_most)) if x is not None]
    return f"{'slope ' if claim.kind == 'slope' else ''}{', '.join(ends)}"


def measurement(claim: Claim, found: Finding) -> str:
    """What was found, in a few characters."""
    if claim.kind == "slope":
        return f"slope {short(exponent(found.points))}" if len({x for x, _ in found.points}) > 1 else "-"
    interval = "" if found.low is None or found.high is None else f" [{short(found.low)}, {short(found.high)}]"
    value = found.value
    if claim.digits is not None:
        value = _rounded(value, claim.digits)
    return short(value) + interval


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, Mapping):
        return {k: _rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v, digits) for v in value]
    return round(value, digits) if isinstance(value, float) else value


def short(value: Any) -> str:
    """A plain value for a table cell."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {short(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return " ".join(short(v) for v in value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.0f}"
    return str(value)
