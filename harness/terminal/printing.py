"""The terminal that every command prints to: a rich console on which text from outside is text and nothing else.

Names and messages come from checkpoints, data files, model outputs and records of other people. Here no text is markup
(styles are given beside it), and what reaches the terminal has passed `visible`, wherever in a table or a bar it stood:
no control character in a name can move the cursor, no mark can turn a line around.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from harness.terminal.visible import visible


class Terminal(Console):
    """`rich.console.Console` for text from outside. Its own control codes (cursor, colours) are rich's, and pass."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "highlight": False, "emoji": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(self._printable(segment.text), segment.style)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """A spinner beside a text (rich would take a plain string for markup)."""
        return super().status(Text(status) if isinstance(status, str) else status, **options)

    def _printable(self, text: str) -> str:
        shown = visible(text)
        return shown if self.encoding.startswith("utf") else shown.encode(self.encoding, "backslashreplace").decode()
