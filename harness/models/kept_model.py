"""The model that this process loaded last, kept for what wants it next: the cells after a lesson, the next job of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.models.view import View

_state: dict[str, Any] = {"on": False, "spec": None, "view": None}


def hold(on: bool = True) -> None:
    """Keep the last model from now on, or let it go and keep none."""
    _state.update(on=on, spec=None, view=None)


@contextmanager
def kept() -> Iterator[None]:
    """Keep the last model during a block; afterwards it is let go, unless this process holds models anyway."""
    held = bool(_state["on"])
    if not held:
        hold()
    try:
        yield
    finally:
        if not held:
            hold(False)


def load(spec: Any) -> View:
    """The model of a spec: the one that is held, if its spec is equal and its files are the same, else loaded now."""
    if not _state["on"]:
        return spec.load()
    wanted = (spec, spec.identity())
    if _state["spec"] != wanted:
        _state.update(spec=None, view=None)  # two models need not fit into memory
        _state.update(view=spec.load(), spec=wanted)
    return _state["view"]
