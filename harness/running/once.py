"""A value made on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.errors import UserError


class Once:
    """A plan whose cells are all finished loads no model and prepares no data.

    What cannot be made is not tried again for the next cell: it fails with the same words.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: list[Any] = []
        self._error: UserError | None = None

    def __call__(self) -> Any:
        if self._error is not None:
            raise self._error
        if not self._made:
            try:
                self._made.append(self._make())
            except UserError as error:
                self._error = error
                raise
        return self._made[0]
