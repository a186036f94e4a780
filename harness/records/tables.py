"""Tables on disk: what a probe wrote about each example, and what it (or a lesson) concluded.

    samples.jsonl     of a probe's cell: the rows of every example stand in its line, under `rows`
    config.json       their columns, under `columns`; a cell that has some is a probe's
    tables/           <name>.json, a concluded table with its columns; <name>.csv, the same for people
    tables/rows.csv   the rows of all examples, for people

`rows.csv` and the other CSV files are made of the records and can be made again; the seal covers them nevertheless, so that
what people read is what was stored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from harness.contracts.table import Column, Row, Table, columns_of
from harness.disk.whole import disk_error, read_json, remedy, write_bytes, write_json
from harness.errors import UserError
from harness.records.cells import CellRecord
from harness.terminal.visible import spreadsheet

FOLDER = "tables"
ROWS = "rows"  # the name of the table of all examples, and the key of a sample's own rows
EXAMPLE = Column("example", "text", meaning="id of the example that the row was seen on")


def is_probe(cell: CellRecord) -> bool:
    """Whether a probe wrote the cell: it has tables, and no result that could be compared with another method's."""
    return bool(cell.config.get("columns"))


def columns(cell: CellRecord) -> tuple[Column, ...]:
    """The columns of the rows that stand in the cell's samples; empty if it is no probe's."""
    return columns_of(cell.config.get("columns") or ())


def seen(cell: CellRecord) -> Table:
    """The rows of all examples, each led by the id of its example. `UserError` if one is damaged."""
    try:
        return Table((EXAMPLE, *columns(cell)), tuple(_seen(cell)))
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(f"{cell.path / 'samples.jsonl'} is damaged ({error}). {remedy(cell.path)}") from error


def _seen(cell: CellRecord) -> Iterator[Row]:
    for sample in cell.stream():
        for row in sample.get(ROWS) or ():
            yield sample["id"], *row


def concluded(folder: Path) -> dict[str, Table]:
    """The tables of a folder by name. `UserError` names the file that is damaged."""
    found = {}
    for file in sorted((folder / FOLDER).glob("*.json")):
        try:
            found[file.stem] = Table.from_json(read_json(file))
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(f"{file} is damaged (it is no table: {error}). {remedy(folder)}") from error
    return found


def write(folder: Path, tables: Mapping[str, Table]) -> list[Path]:
    """Store tables under their names, as JSON and as CSV; the files of earlier ones are replaced. Returns the files."""
    written = []
    place = _place(folder)
    for name, table in tables.items():
        write_json(place / f"{name}.json", table.to_json())
        write_bytes(place / f"{name}.csv", to_csv(table.columns, table.rows))
        written += [place / f"{name}.json", place / f"{name}.csv"]
    return written


def write_rows(folder: Path, of: Iterable[Column], rows: Iterable[Row]) -> Path:
    """Store the rows of all examples as CSV; the records of them are the samples."""
    file = _place(folder) / f"{ROWS}.csv"
    write_bytes(file, to_csv((EXAMPLE, *of), rows))
    return file


def _place(folder: Path) -> Path:
    place = folder / FOLDER
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise disk_error(place, error) from error
    return place


def to_csv(of: Iterable[Column], rows: Iterable[Row]) -> bytes:
    """A head with names and units, then plain numbers; no text that a spreadsheet would take for a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([spreadsheet(title(column)) for column in of])
    writer.writerows([spreadsheet(value) for value in row] for row in rows)
    return out.getvalue().encode(errors="replace")


def title(column: Column) -> str:
    """The column's name with its unit.

    >>> title(Column("entropy", unit="nats"))
    'entropy (nats)'
    """
    return f"{column.name} ({column.unit})" if column.unit else column.name
