"""`heed claims`: every published claim as reproduced, not reproduced or not tested, with the numbers behind it.

Arithmetic and micro models decide what they can in about half a minute; the rest is looked up in a results folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from harness.claims import Claim, Verdict, decide, load
from harness.claims.words import STATUSES
from harness.terminal.printing import Terminal

_STYLES = {"reproduced": "green", "not reproduced": "bold red", "not tested": "dim"}


def show(results: str) -> int:
    """Print the table, the counts, and why claims were not tested. 0 whatever the verdicts: they are information."""
    from harness.analysis.probes import split
    from harness.records.cells import read_cells

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: micro models run fastest on one thread
    console = Terminal()
    claims = load()
    cells, _ = split(read_cells(Path(results)))
    for cell in cells:
        if cell.problem:
            console.print(Text(f"left out: {cell.problem}", style="yellow"))
    verdicts = _decide(claims, cells)
    console.print(_table(verdicts))
    console.print(_counts(verdicts))
    _explain(verdicts, console)
    return 0


def _decide(claims: Sequence[Claim], cells: Sequence) -> list[Verdict]:
    """With a bar on the terminal, a plain line elsewhere."""
    err = Terminal(stderr=True)
    here = sum(claim.check is not None for claim in claims)
    if not err.is_terminal:
        err.print(f"{len(claims)} claims, {here} of them are computed here ...")
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("claims", total=len(claims))
        return decide(claims, cells, lambda claim: bar.update(task, advance=1, description=claim.name))


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("method", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("statement", overflow="fold", ratio=3)
    table.add_column("expected", overflow="fold", ratio=1, min_width=11)
    table.add_column("measured", overflow="fold", ratio=1, min_width=11)
    table.add_column("verdict", no_wrap=True)
    for verdict in verdicts:
        claim = verdict.claim
        cells = (claim.method, claim.kind, claim.statement, verdict.expected, verdict.measured)
        table.add_row(*map(Text, cells), Text(verdict.status, style=_STYLES[verdict.status]))
    return table


def _counts(verdicts: Sequence[Verdict]) -> Text:
    counts = Counter(verdict.status for verdict in verdicts)
    parts = ", ".join(f"{counts[status]} {status}" for status in STATUSES)
    return Text(f"\n{len(verdicts)} claims: {parts}", style="bold")


def _explain(verdicts: Sequence[Verdict], console: Console) -> None:
    """Reasons, equal ones together. A command is left to the terminal to wrap, so that it can be copied."""
    for status in ("not reproduced", "not tested"):
        reasons: dict[str, list[str]] = {}
        for verdict in verdicts:
            if verdict.status == status:
                reasons.setdefault(verdict.reason or "see the table", []).append(verdict.claim.name)
        if reasons:
            console.print(Text(f"\n{status}", style=_STYLES[status]))
        for reason, names in reasons.items():
            console.print(Text(f"  {', '.join(names)}: {reason}"), soft_wrap=True)
