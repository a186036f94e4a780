"""Probes in the leaderboard's files: a section of the Markdown, a CSV of their own, and data for the page.

Pictures are drawn anew from the stored tables, so nothing that lies beside the records is shown.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from harness.analysis.probes import Probed
from harness.contracts.table import Column, Table
from harness.records.pictures import draw
from harness.records.tables import title
from harness.report.markdown_text import code, escape, table_row
from harness.report.tables import TEXT, chosen, shown
from harness.terminal.visible import line, spreadsheet

PICTURES = 60  # of a page
FIXED = ("model", "probe", "task", "run_id", "table")
WHAT = "What probes saw in a model. They leave its answers alone, so nothing here is compared."


def markdown(probes: Sequence[Probed]) -> Iterator[str]:
    """The lines of the section; none without probes."""
    done = [one for one in probes if one.status == "done"]
    if not done:
        return
    yield f"\n## Probes\n\n{WHAT} All their numbers are in probes.csv beside this file.\n"
    for one in done:
        yield f"### {escape(one.name)}\n\n{escape(one.examples)} (`{code(one.cell.run_id)}`)\n"
        for name, table in one.tables.items():
            rows, which = chosen(table)
            yield f"{escape(name)}{': ' + escape(which) if which else ''}\n"
            yield table_row(escape(_head(column)) for column in table.columns)
            yield table_row("---" if column.kind == "text" else "---:" for column in table.columns)
            yield from (table_row(escape(shown(value)) for value in row) for row in rows)
            yield ""


def _head(column: Column) -> str:
    return line(title(column), TEXT)


def to_csv(probes: Sequence[Probed]) -> str:
    """Every row of every concluded table; a column that a table lacks is empty in its lines."""
    tables = [(one, name, table) for one in probes for name, table in one.tables.items()]
    own = list(dict.fromkeys(title(column) for _, _, table in tables for column in table.columns))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*FIXED, *map(spreadsheet, own)])
    for one, name, table in tables:
        labels = one.cell.labels
        about = [labels["model"], labels["method"], labels["task"], one.cell.run_id, name]
        at = {title(column): i for i, column in enumerate(table.columns)}
        for row in table.rows:
            found = [*about, *(row[at[key]] if key in at else None for key in own)]
            writer.writerow([spreadsheet(value) for value in found])
    return out.getvalue()


def page(probes: Sequence[Probed], left_out: list[str]) -> list[dict[str, Any]]:
    """What the page's script shows, as plain JSON. What does not fit is told in `left_out`."""
    parts, drawn = [], 0
    for one in probes:
        if one.status != "done":
            continue
        tables = []
        for name, table in one.tables.items():
            tables.append(_table(name, table))
            if drawn < PICTURES and (picture := draw(table, one.name)):
                tables[-1]["picture"] = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
                drawn += 1
        parts.append({
            "name": line(one.name, 300), "examples": one.examples, "run": line(one.cell.run_id, 80), "tables": tables,
        })  # fmt: skip
    if drawn == PICTURES and len([t for p in parts for t in p["tables"]]) > PICTURES:
        left_out.append(
            f"Of the tables of probes {PICTURES} have their picture here; the rest are in each cell's figures."
        )
    return parts


def _table(name: str, table: Table) -> dict[str, Any]:
    rows, which = chosen(table)
    return {
        "name": line(name, TEXT), "which": which, "head": [_head(column) for column in table.columns],
        "meanings": [line(column.meaning, 300) for column in table.columns],
        "rows": [[shown(value) for value in row] for row in rows],
    }  # fmt: skip
