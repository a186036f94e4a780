"""Where two nested values differ: what a stored identity has, and what is asked now."""

from __future__ import annotations

from typing import Any


def differing(a: Any, b: Any, where: str = "") -> list[str]:
    """Dotted keys at which two nested values differ.

    >>> differing({"method": {"blocks": 9}, "seed": 0}, {"method": {"blocks": 8}, "seed": 0})
    ['method.blocks']
    """
    if isinstance(a, dict) and isinstance(b, dict):
        inner = (differing(a.get(k), b.get(k), f"{where}.{k}" if where else k) for k in sorted({*a, *b}))
        return [key for keys in inner for key in keys]
    return [] if a == b and type(a) is type(b) else [where or "identity"]
