"""Numbers that are no numbers: a NaN among the logits would be scored like an answer. Whoever meets one asks here who made
it, and gets the error to raise: the model itself, named with the place in it where non-finite values begin, or the method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from harness.attention.doors.dispatch import outer, silenced
from harness.errors import UserError
from harness.models.finite import first_nonfinite, model_error

if TYPE_CHECKING:
    from harness.attention.attach import Attached
    from harness.models.view import View

Given = Callable[["Attached | None"], Mapping[str, Any]]  # keywords of a forward, announced to a method (None: dense)


def blame(view: View, given: Given, attached: Attached | None, where: str) -> UserError:
    """The error for non-finite numbers that were met `where`, on the request that `given` describes."""
    with silenced(view.config):
        place = first_nonfinite(view, given(None))
    if place is None and attached is not None and attached.runtime is not None:
        with _at_work(view, attached):
            place = first_nonfinite(view, given(attached))
        return UserError(
            f"Method '{attached.method.name}' makes numbers that are not finite (NaN or infinite), first in "
            f"{place or where}; the model alone computes finite ones there. Check its strengths and factors."
        )
    return model_error(view, place or where)


@contextmanager
def _at_work(view: View, attached: Attached) -> Iterator[None]:
    active: AbstractContextManager[Any] = nullcontext()
    if outer(view.config) is not attached.runtime:
        active = attached.active()
    with active:
        yield
