"""Numbers as an estimate should say them: two digits, and `?` for what is not known."""

from __future__ import annotations

from math import floor, log10


def short(value: float | None, unit: str = "") -> str:
    """Two digits, a decimal prefix and a unit; small whole numbers stay whole.

    >>> short(1234567), short(87), short(9.96e11, "FLOP"), short(0.4), short(None)
    ('1.2 M', '87', '1 TFLOP', '0', '?')
    """
    if value is None:
        return "?"
    if value < 999.5:
        return f"{value:.0f} {unit}".rstrip()
    value = _two(value)
    power = min(int(floor(log10(value) + 1e-9) // 3), 6)
    return f"{value / 1000**power:g} {'kMGTPE'[power - 1]}{unit}"


def short_size(value: float | None) -> str:
    """Bytes.

    >>> short_size(3 * 2**30), short_size(700 * 2**20), short_size(None)
    ('3 GiB', '700 MiB', '?')
    """
    if value is None:
        return "?"
    for unit, name in ((2**40, "TiB"), (2**30, "GiB")):
        if value >= unit:
            return f"{_two(value / unit):g} {name}"
    return f"{_two(value / 2**20):g} MiB"


def clock(seconds: float | None) -> str:
    """Seconds.

    >>> clock(0.2), clock(95), clock(700), clock(12345), clock(9e5), clock(None)
    ('1 s', '95 s', '12 min', '3.4 h', '10 days', '?')
    """
    if seconds is None:
        return "?"
    if seconds < 99.5:
        return f"{max(1.0, seconds):.0f} s"
    if seconds < 5940:
        return f"{_two(seconds / 60):g} min"
    return f"{_two(seconds / 3600):g} h" if seconds < 5 * 86400 else f"{_two(seconds / 86400):g} days"


def _two(value: float) -> float:
    return round(value, 1 - floor(log10(value))) if value > 0 else 0.0
