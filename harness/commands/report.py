"""`heed report`: the leaderboard of one or more results folders as Markdown, CSV and one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.disk.output import output_folder, write_output
from harness.errors import UserError
from harness.records.cells import CellRecord, read_cells
from harness.report import markdown, page, probe_sections, table_csv
from harness.report.board import Board, board
from harness.report.page_data import pages
from harness.terminal.printing import Terminal
from harness.terminal.visible import line

SHOWN = 12  # problems that the terminal names
OLD = (
    "{} cells were sealed by an earlier heed: that their samples and metrics are what was stored is known, of labels and speed "
    "it is not. Their run commands make them anew under new run ids."
)


def write(roots: list[str], out: str | None) -> int:
    """Write `index.html`, `leaderboard.md`, `leaderboard.csv`, and `probes.csv` where there are some; `UserError` if there is
    nothing to report.
    """
    console = Terminal()
    folder = Path(roots[0]) / "leaderboard" if out is None else output_folder("--out ", out)
    cells = _cells([Path(root) for root in roots])
    with console.status("reading samples") as status:
        found = board(cells, lambda block: status.update(Text(f"read {line(block.model)} / {line(block.task)}")))
        parts = pages(found)
        texts = {
            "leaderboard.md": markdown.render(found),
            "leaderboard.csv": table_csv.render(found),
            "index.html": page.render(found, parts),
        } | ({"probes.csv": probe_sections.to_csv(found.probes)} if found.probes else {})
    sizes = {name: _write(folder, name, text) for name, text in texts.items()}
    _tell(console, found)
    for text in parts["main"]["left_out"]:
        console.print(Text(text))
    for name, size in sizes.items():
        console.print(Text(f"wrote {folder / name} ({size / 1e6:.2f} MB)"), soft_wrap=True)
    return 0


def _cells(roots: Sequence[Path]) -> list[CellRecord]:
    missing = [str(root) for root in roots if not root.is_dir()]
    cells = read_cells(*roots)
    if not cells:
        where = ", ".join(map(str, roots))
        what = f"there is no folder {', '.join(missing)}" if missing else f"no cells are stored in {where}"
        raise UserError(
            f"nothing to report: {what}. Get a first result with `heed run` (offline, a minute), or "
            f"`heed run suite=demo results={roots[0]}`, and then run `heed report results={roots[0]}`."
        )
    if missing:
        raise UserError(f"there is no folder {', '.join(missing)}. Leave it out, or correct the name.")
    return cells


def _write(folder: Path, name: str, text: str) -> int:
    data = text.encode(errors="replace")
    write_output(folder / name, data)
    return len(data)


def _tell(console: Console, found: Board) -> None:
    console.print(Text(markdown.counted(found.counts)))
    alarmed = sum(bool(one.alarms) for one in found.lines)
    if alarmed:
        console.print(Text(f"{alarmed} with alarms"))
    old = sum(one.cell.old_seal for one in found.lines)
    if old:
        console.print(Text(OLD.format(old)), soft_wrap=True)
    for problem in found.problems[:SHOWN]:
        console.print(
            Text(f"{problem.status}: {line(problem.name, 120)}: {line(problem.reason, 400)}", style="yellow"),
            soft_wrap=True,
        )
    if len(found.problems) > SHOWN:
        console.print(Text(f"and {len(found.problems) - SHOWN} more, all named in the files", style="yellow"))
