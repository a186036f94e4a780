"""Tables that probes and lessons write: typed columns, so that every picture, file and page follows from them.

A column says what its values are. `layer`, `head` and `position` count from 0 and are the axes of pictures (a map over two
of them, a curve over one); `number` is what is drawn, `text` only names. This module imports nothing but the standard
library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum, isfinite
from typing import Any, Literal, get_args

Kind = Literal["layer", "head", "position", "number", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)
INDICES: tuple[Kind, ...] = ("layer", "head", "position")
Value = int | float | str | None  # None: no value here
Row = Sequence[Value]  # in the order of the columns


@dataclass(frozen=True)
class Column:
    """`unit`: of its numbers (ms, nats; empty: none). `meaning`: one line for people."""

    name: str
    kind: Kind = "number"
    unit: str = ""
    meaning: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.name:
            raise ValueError(f"column {self.name!r} of kind {self.kind!r}: a kind is one of {', '.join(KINDS)}")

    def holds(self, value: Any) -> bool:
        """Whether `value` can stand in this column."""
        if value is None:
            return True
        if self.kind == "text":
            return isinstance(value, str)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return isinstance(value, int) and value >= 0 if self.kind in INDICES else isfinite(value)


@dataclass(frozen=True)
class Table:
    """`rows` in the order of `columns`. `ValueError` names the first value that its column cannot hold."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "rows", tuple(tuple(row) for row in self.rows))
        check_rows(self.columns, self.rows)

    def values(self, name: str) -> list[Value]:
        """The values of the column `name`, row by row. `KeyError` if there is none."""
        at = {column.name: i for i, column in enumerate(self.columns)}[name]
        return [row[at] for row in self.rows]

    def of_kind(self, kind: Kind) -> list[Column]:
        """The columns of one kind, in order."""
        return [column for column in self.columns if column.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """`columns` and `rows` as plain JSON; `from_json` reads it."""
        return {"columns": [asdict(column) for column in self.columns], "rows": [list(row) for row in self.rows]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Table:
        """Inverse of `to_json`. `ValueError`, `TypeError` or `LookupError` for anything else."""
        return cls(columns_of(stored["columns"]), tuple(tuple(row) for row in stored["rows"]))


def columns_of(stored: Iterable[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Columns from their JSON form."""
    return tuple(Column(**column) for column in stored)


def check_rows(columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """`ValueError` for the first row that has another number of values, or a value that its column cannot hold."""
    for i, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(f"row {i} has {len(row)} values for {len(columns)} columns")
        for column, value in zip(columns, row, strict=True):
            if not column.holds(value):
                raise ValueError(f"row {i} has {value!r:.60} in column '{column.name}', which holds a {column.kind}")


def averaged(table: Table, without: Sequence[str] = ()) -> Table:
    """The mean of every number over the rows that agree in all other columns, in the order of those; rows of which no
    number is known are left out. `without`: columns that are dropped before. Means are rounded to double precision once.
    """
    kept = [i for i, column in enumerate(table.columns) if column.name not in without]
    keys = [i for i in kept if table.columns[i].kind != "number"]
    numbers = [i for i in kept if table.columns[i].kind == "number"]
    groups: dict[tuple[Value, ...], list[list[float]]] = {}
    for row in table.rows:
        if any(row[i] is not None for i in numbers):
            found = groups.setdefault(tuple(row[i] for i in keys), [[] for _ in numbers])
            for values, i in zip(found, numbers, strict=True):
                if (value := row[i]) is not None:
                    values.append(float(value))
    rows = []
    for key in sorted(groups, key=lambda key: [(value is None, str(type(value)), value or 0) for value in key]):
        means = dict(zip(numbers, (fsum(v) / len(v) if v else None for v in groups[key]), strict=True))
        own = dict(zip(keys, key, strict=True))
        rows.append(tuple(own[i] if i in own else means[i] for i in kept))
    return Table(tuple(table.columns[i] for i in kept), tuple(rows))
