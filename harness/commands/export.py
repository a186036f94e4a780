"""`heed export`: finished cells in the layout of another program, from the records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from harness.analysis.board_rows import status_of
from harness.analysis.probes import NO_RESULT
from harness.disk.output import output_folder
from harness.errors import UserError, nearest
from harness.records.cells import CellRecord, read_cells
from harness.records.tables import is_probe
from harness.terminal.printing import Terminal

FORMATS = ("lm-eval",)
KINDS = ("model", "method", "task")


def write(which: Sequence[str], results: str, layout: str, out: str) -> int:
    """Write the chosen cells (all if none is named) and say what was written and what was left out."""
    if layout not in FORMATS:
        raise UserError(f"--format={layout} is no layout that heed can write: {nearest(layout, FORMATS)}")
    folder = output_folder("--out ", out)
    cells = chosen(read_cells(Path(results)), which, results)
    states = {cell.run_id: ("", NO_RESULT) if is_probe(cell) else status_of(cell) for cell in cells}
    done = [cell for cell in cells if states[cell.run_id][0] == "done"]
    if not done:
        raise UserError(f"no cell of {results} that was named is finished, so there is nothing to export.")
    from harness.exchange.lm_eval import export

    files = export(done, folder)
    console = Terminal()
    for path in files:
        console.print(Text(f"wrote {path}"), soft_wrap=True)
    for cell in cells:
        status, reason = states[cell.run_id]
        if status != "done":
            where = " / ".join(str(cell.labels.get(kind, "?")) for kind in KINDS)
            why = f"{status} {reason}".strip()
            console.print(Text(f"left out {where} ({cell.run_id}): {why}"), soft_wrap=True)
    return 0


def chosen(cells: Sequence[CellRecord], which: Sequence[str], results: str) -> list[CellRecord]:
    """The cells that are named by run ids (six digits are enough) or labels.

    Labels of one kind add up, labels of different kinds narrow: two labels of methods and one of a task are two cells.
    """
    if not cells:
        raise UserError(f"{results} holds no cells. Make some: heed run results={results}.")
    by_id: set[str] = set()
    labels: dict[str, set[str]] = {}
    for text in which:
        ids = {c.run_id for c in cells if len(text) >= 6 and c.run_id.startswith(text)}
        kind = next((k for k in KINDS if any(c.labels.get(k) == text for c in cells)), None)
        if kind is None and len(ids) != 1:
            known = {str(c.labels[k]) for c in cells for k in KINDS if c.labels.get(k)}
            raise UserError(
                f"'{text}' is no run, model, method or task in {results}: {nearest(text, known)} A run is named by the first "
                "6 digits of its id."
            )
        if kind is None:
            by_id |= ids
        else:
            labels.setdefault(kind, set()).add(text)
    if not which:
        return list(cells)
    narrowed = [c for c in cells if labels and all(c.labels.get(k) in names for k, names in labels.items())]
    found = {c.run_id for c in narrowed} | by_id
    if not found:
        raise UserError(f"no cell in {results} is named by all of {', '.join(which)} together.")
    return [c for c in cells if c.run_id in found]
