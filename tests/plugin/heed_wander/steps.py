"""Which keys a query reads; part of every run id of `wander`, because its file imports this one."""

from typing import Any


def is_read(i: Any, j: Any, recent: int, step: int) -> Any:
    """The nearest `recent` keys, and of the rest every `step`-th from the start."""
    return (i - j < recent) | (j % step == 0)
