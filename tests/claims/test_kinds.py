"""Every kind of claim, with numbers made by hand: what holds is reproduced, what does not is not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.claims.kinds import expectation, exponent, judge, measurement
from harness.claims.words import Claim
from harness.contracts.check import Finding


def claim(kind: str, **more: Any) -> Claim:
    return Claim(method="power", id="x", kind=kind, statement="s", source="p", **more)  # type: ignore[arg-type]


LINEAR = tuple((float(n), 3.0 * n) for n in (10, 20, 40))
SQUARE = tuple((float(n), 0.5 * n * n) for n in (10, 20, 40))

HOLDS = {
    "exact": (claim("exact", expected=[1, 2]), Finding([1, 2])),
    "exact, rounded": (claim("exact", expected=[0.6251], digits=4), Finding([0.62514])),
    "exact, mapping": (claim("exact", expected={"a": 1, "b": 2}), Finding({"b": 2.0, "a": 1})),
    "bound above": (claim("bound", at_most=0.5), Finding([0.1, 0.5])),
    "bound below, interval": (claim("bound", at_least=1), Finding(2.0, 1.5, 2.5)),
    "direction": (claim("direction", expected="down"), Finding(-0.2, -0.3, -0.1, True)),
    "direction, exact list": (claim("direction", expected="up"), Finding([1, 2, 5])),
    "direction, exact numbers": (claim("direction", expected="up"), Finding(0.1)),
    "band": (claim("band", expected=46.4, tolerance=2.5), Finding(44.0)),
    "band, the interval reaches it": (claim("band", expected=46.4, tolerance=2.5), Finding(43.0, 41.0, 45.0)),
    "slope": (claim("slope", expected=1.0, tolerance=0.01), Finding(points=LINEAR)),
    "slope, bound": (claim("slope", at_most=2.001), Finding(points=SQUARE)),
    "slope, trend": (claim("slope", expected="down"), Finding(points=((10, 100.0), (20, 0.0)))),
}
FAILS = {
    "exact": (claim("exact", expected=[1, 2]), Finding([1, 3])),
    "exact, length": (claim("exact", expected=[1, 2]), Finding([1, 2, 2])),
    "exact, rounded": (claim("exact", expected=[0.6251], digits=4), Finding([0.62516])),
    "exact, mapping": (claim("exact", expected={"a": 1, "b": 2}), Finding({"a": 1})),
    "exact, not rounded": (claim("exact", expected=0.0), Finding(1e-9)),
    "bound above": (claim("bound", at_most=0.5), Finding([0.1, 0.51])),
    "bound, interval crosses": (claim("bound", at_least=1), Finding(2.0, 0.5, 2.5)),
    "bound, not a number": (claim("bound", at_most=0.5), Finding(math.nan)),
    "direction, other sign": (claim("direction", expected="down"), Finding(0.2, 0.1, 0.3, True)),
    "direction, chance": (claim("direction", expected="down"), Finding(-0.2, -0.5, 0.1, False)),
    "direction, none": (claim("direction", expected="down"), Finding(0.0, 0.0, 0.0, False)),
    "direction, a tie in the list": (claim("direction", expected="up"), Finding([1, 2, 2])),
    "direction, one number": (claim("direction", expected="up"), Finding([1])),
    "band": (claim("band", expected=46.4, tolerance=2.5), Finding(43.8)),
    "band, the interval ends before": (claim("band", expected=46.4, tolerance=2.5), Finding(42.0, 41.0, 43.0)),
    "slope": (claim("slope", expected=1.0, tolerance=0.01), Finding(points=SQUARE)),
    "slope, bound": (claim("slope", at_most=1.5), Finding(points=SQUARE)),
    "slope, trend": (claim("slope", expected="down"), Finding(points=LINEAR)),
    "slope, one length": (claim("slope", expected="up"), Finding(points=((10, 1.0),))),
}


@pytest.mark.parametrize("name", HOLDS)
def test_what_holds_is_reproduced(name: str) -> None:
    assert judge(*HOLDS[name])[0]


@pytest.mark.parametrize("name", FAILS)
def test_what_does_not_hold_is_not(name: str) -> None:
    assert not judge(*FAILS[name])[0]


def test_every_reason_of_a_difference_is_said() -> None:
    assert "chance" in judge(*FAILS["direction, chance"])[1]
    assert "other sign" in judge(*FAILS["direction, other sign"])[1]
    assert "crosses" in judge(*FAILS["bound, interval crosses"])[1]


def test_the_exponent_of_a_power_law_is_found() -> None:
    assert exponent(LINEAR) == pytest.approx(1) and exponent(SQUARE) == pytest.approx(2)


def test_numbers_are_written_short() -> None:
    assert expectation(claim("band", expected=46.4, tolerance=2.5)) == "46.4 +- 2.5"
    assert expectation(claim("bound", at_least=1, at_most=2)) == ">= 1, <= 2"
    assert expectation(claim("slope", at_most=1.5)) == "slope <= 1.5"
    assert measurement(claim("direction", expected="up"), Finding(3.04, 1.0, 5.0, True)) == "3.04 [1, 5]"
    assert measurement(claim("exact", expected=1), Finding([351535104, 5])) == "351535104 5"
