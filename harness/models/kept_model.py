"""The model that this process loaded last, kept for the next job that wants it (a worker that runs many jobs)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.models.view import View

_state: dict[str, Any] = {"on": False, "spec": None, "view": None}


def hold(on: bool = True) -> None:
    """Keep the last model from now on, or let it go and keep none."""
    _state.update(on=on, spec=None, view=None)


def load(spec: Any) -> View:
    """The model of a spec: the one that is held, if its spec is equal and its files are the same, else loaded now."""
    if not _state["on"]:
        return spec.load()
    wanted = (spec, spec.identity())
    if _state["spec"] != wanted:
        _state.update(spec=None, view=None)  # two models need not fit into memory
        _state.update(view=spec.load(), spec=wanted)
    return _state["view"]
