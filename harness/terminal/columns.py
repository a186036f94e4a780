"""Columns that fit a terminal: the widest of several shapes that the console has room for, measured, never guessed.

What belongs together (a value and its interval) is one `Column` of several pieces. Where there is room they stand side by side;
where there is not, under each other in one row; and where even that is too wide the columns are spread over several
tables, each beginning with the names of the rows. A number is never broken.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

# A rule under the head and nothing else, in ASCII; rows of two lines are kept apart by their second, bracketed line.
RULE = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
HEAD = 16  # characters of a head in one line; longer ones (labels of methods) go on in the next
NAME = 24  # characters below which a name of a row is not folded, unless a single column leaves less
LEAST = 8  # characters that the names always keep
Pieces = tuple[Text, ...]


@dataclass(frozen=True)
class Column:
    """`heads`, and `cells` with as many pieces for each row (fewer: the last ones are empty).

    `join`: what stands between two pieces of a cell side by side; empty: then they are columns of their own.
    """

    heads: tuple[str, ...]
    cells: Sequence[Pieces]
    join: str = ""

    def beside(self) -> list[Shape]:
        if self.join:
            return [Shape(_heads((self.heads[0],)), [_joined(cell, self.join) for cell in self.cells])]
        pieces = range(len(self.heads))
        return [Shape(_heads((self.heads[i],)), [c[i] if i < len(c) else Text() for c in self.cells]) for i in pieces]

    def below(self) -> list[Shape]:
        return [Shape(_heads(self.heads), [_joined(cell, "\n") for cell in self.cells])]

    def brief(self) -> list[Shape]:
        return [Shape(_heads(self.heads[:1]), [_joined(cell[:1], "") for cell in self.cells])]


@dataclass(frozen=True)
class Shape:
    """One column as it is printed."""

    head: str
    cells: Sequence[Text]

    @property
    def width(self) -> int:
        return max(Text(line).cell_len for text in (self.head, *map(str, self.cells)) for line in text.split("\n"))


def tables(
    names: Column, columns: Sequence[Column], width: int, repeated: Sequence[Column] = (), brief: bool = False
) -> list[Table]:
    """One table that fits `width`, or as few as do. `names` says what the rows are and, with `repeated`, leads every table.

    `brief`: first pieces alone are better than columns that stand in two tables.
    """
    first = names.below()[0]
    name = min(first.width, NAME)
    forms = [Column.beside, Column.below, *([Column.brief] if brief else [])]
    for form in forms:
        lead, shapes = ([shape for column in part for shape in form(column)] for part in (repeated, columns))
        for gap in (2, 1):
            room = width - sum(s.width + gap for s in (*lead, *shapes))
            if room >= name:
                return [_table(first, [*lead, *shapes], gap, room)]
    room = width - sum(s.width + 1 for s in lead)
    name = max(LEAST, min(name, room - 1 - max(s.width for s in shapes)))
    return [_table(first, [*lead, *part], 1, name) for part in _parts(shapes, room - name)]


def _parts(shapes: Sequence[Shape], room: int) -> Iterator[list[Shape]]:
    """The columns in order, as many in each part as the room allows."""
    part: list[Shape] = []
    for shape in shapes:
        if part and sum(s.width + 1 for s in [*part, shape]) > room:
            yield part
            part = []
        part.append(shape)
    yield part


def _table(first: Shape, shapes: Sequence[Shape], gap: int, name: int) -> Table:
    table = Table(box=RULE, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0), header_style="bold")
    table.add_column(Text(first.head), overflow="fold", max_width=name)
    for shape in shapes:
        table.add_column(Text(shape.head), justify="right", no_wrap=True)
    for i, cell in enumerate(first.cells):
        table.add_row(cell, *(shape.cells[i] for shape in shapes))
    return table


def _heads(heads: Sequence[str]) -> str:
    return "\n".join(part for head in heads for line in head.split("\n") for part in textwrap.wrap(line, HEAD) if part)


def _joined(pieces: Sequence[Text], by: str) -> Text:
    return Text(by).join([piece for piece in pieces if piece.plain])
