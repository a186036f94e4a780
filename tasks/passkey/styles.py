"""What the four styles prescribe when the config leaves a parameter empty."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """Published settings. None: new tokens depend on the key; the style places the needle itself."""

    unit: str  # what `lengths` counts
    lengths: tuple[int, ...]
    depths: tuple[float, ...] | None
    trials: int
    policy: str
    max_new_tokens: int | None


STYLES = {
    "grid": Style("tokens", (1024, 2048, 4096, 8192, 16384, 32768), tuple(range(0, 101, 10)), 10, "first_digits", None),
    "landmark": Style(
        "characters",
        (0, 100, 500, 1000, 5000, 8000, 10000, 12000, 14000, 18000, 20000, 25000, 38000),
        None,
        50,
        "first_int",
        10,
    ),
    "longlora": Style("steps", tuple(range(1, 33)), None, 10, "contains", None),
    "infinitebench": Style("lines", (5220,), None, 10, "first_digits", 6),
}
