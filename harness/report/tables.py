"""Tables of probes on the terminal: what was concluded, whole or the rows that stand first, and where all of it lies."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.text import Text

from harness.analysis.probes import Probed, leading, probed
from harness.contracts.table import Table, Value
from harness.records.cells import CellRecord
from harness.records.tables import FOLDER, ROWS, title
from harness.terminal import columns
from harness.terminal.visible import line, plain

WHOLE, TOP = 32, 12  # rows up to which a table is shown whole, and how many of a longer one are
REASON = 300  # characters of a failure
TEXT = 60  # characters of a text in a table


def render(cells: Sequence[CellRecord], console: Console, told: Collection[str] = ()) -> None:
    """Print the tables of those of `cells` that are probes'. `told`: run ids whose failures the caller explains itself."""
    for one in probed(cells):
        about = one.examples if one.status == "done" else one.status
        console.print(Text(f"\n{plain(one.name)}", style="bold"), Text(f"(probe; {about})", style="dim"))
        if one.reason and one.cell.run_id not in told:
            console.print(Text(line(one.reason, REASON), style="red"), soft_wrap=True)
        for name, table in one.tables.items():
            _print(name, table, console)
        if one.status == "done":
            console.print(Text(_places(one), style="dim"), soft_wrap=True)


def shown(value: Value) -> str:
    """A value as people read it.

    >>> shown(0.123456), shown(3), shown(None), shown("a\\nb")
    ('0.1235', '3', '-', 'a b')
    """
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else line(value, TEXT)


def chosen(table: Table) -> tuple[Sequence[Sequence[Value]], str]:
    """The rows that are shown to people, and which these are."""
    return leading(table, WHOLE if len(table.rows) <= WHOLE else TOP)


def _print(name: str, table: Table, console: Console) -> None:
    rows, which = chosen(table)
    heads = [line(title(column), TEXT) for column in table.columns]
    first, *rest = [
        columns.Column((head,), [(Text(shown(row[i])),) for row in rows], join=" ") for i, head in enumerate(heads)
    ]
    console.print(Text(f"{plain(name)}{f': {which}' if which else ''}", style="dim"))
    for i, made in enumerate(columns.tables(first, rest, console.width)):
        if i:
            console.print()
        console.print(made)


def _places(one: Probed) -> str:
    """Where the whole tables and their pictures are."""
    pictures = [f"figures/{name}.png" for name in one.tables]
    found = [f"{FOLDER}/{ROWS}.csv", *(name for name in pictures if (one.cell.path / name).exists())]
    return f"in {one.cell.path}: {', '.join(found)}"
