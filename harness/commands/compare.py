"""`heed compare A B`: two runs, two methods or two models, task by task, from the records alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.board_rows import question, status_of
from harness.analysis.compare import Compared, compared, differences, examples_for, holm, incomparable, pairs, ratios
from harness.analysis.probes import NO_RESULT
from harness.errors import UserError, nearest
from harness.records.cells import CellRecord, read_cell, read_cells
from harness.records.tables import is_probe
from harness.report.notes import notes
from harness.report.numbers import bounds, shown
from harness.terminal.columns import Column, tables
from harness.terminal.printing import Terminal
from harness.terminal.visible import plain

Pairing = tuple[str, CellRecord, CellRecord]  # what both have in common, A, B


def show(a: str, b: str, results: str, points: float) -> int:
    """Print the comparison. Exit code 2 if not one pair of cells can be compared."""
    console = Terminal()
    cells = [] if _is_path(a) or _is_path(b) else read_cells(Path(results))
    pairings = match(a, b, Path(results), cells)
    able = []
    refused = [f"left out: {cell.problem}" for cell in cells if not cell.labels]  # whose it is cannot be read
    for name, x, y in pairings:
        try:
            rows, left_out = _compare(x, y)
            able.append((name, x, y, rows, left_out))
        except UserError as error:
            refused.append(f"{name}: not comparable: {error}")
    for (name, x, y, rows, left_out), p in zip(able, holm([one[3][0].difference.p for one in able]), strict=True):
        _print(name, x, y, rows, p, (a, b), points / 100, left_out, console)
    for text in refused:
        console.print(Text(plain(text), style="yellow"), soft_wrap=True)
    if not able:
        raise UserError(f"no cell of {a} can be compared with one of {b} (reasons above).")
    console.print(Text(f"\n{LEGEND}", style="dim"), soft_wrap=True)
    return 0


def _compare(a: CellRecord, b: CellRecord) -> tuple[list[Compared], int]:
    """The numbers, those on the whole task first, and how many examples only one side has; `UserError` says why not."""
    if unusable := [
        f"{c.path} is {status} ({why})" for c in (a, b) for status, why in [status_of(c)] if status != "done"
    ]:
        raise UserError("; ".join(unusable))
    if looked := [c.path for c in (a, b) if is_probe(c)]:
        raise UserError(f"{looked[0]} is left out: {NO_RESULT}")
    if keys := incomparable(a, b):
        raise UserError(f"{', '.join(keys)} differ{'s' if len(keys) == 1 else ''}")
    found = pairs(a, b)
    rows = compared(a, b, found)
    if not rows or rows[0].by:
        raise UserError(f"{a.path} and {b.path} have no number on the whole task in common.")
    return rows, int(a.metrics.get("n") or 0) + int(b.metrics.get("n") or 0) - 2 * len(found)


LEGEND = (
    "A - B on the same examples, 95 % interval (clustered); * p < 0.05, where the p of a task's first metric is corrected "
    "over all tasks of this comparison and those of its parts over the parts (Holm); other metrics are tested by themselves; few clusters: "
    "fewer than six, or one outweighs the others, so that nothing can be told; "
    "n needed: examples with which a true difference of that size would be found four times out of five; efficiency: "
    "ratio of medians A / B [what the 20-80 % quantiles of both allow]"
)


def match(a: str, b: str, root: Path, cells: list[CellRecord]) -> list[Pairing]:
    """Those of `cells` (all of `root`) of A and B that have everything else in common. Each may be a folder, a run id, a
    method or a model.
    """
    if _is_path(a) or _is_path(b):
        return [("A / B", _folder(a), _folder(b))]
    if not cells:
        raise UserError(
            f"{root} holds no finished runs. Make some: heed run method=[dense,NAME] results={root} (`heed list methods`)."
        )
    by_id = [[c for c in cells if c.run_id.startswith(text) and len(text) >= 6] for text in (a, b)]
    if all(len(found) == 1 for found in by_id):
        return [(" / ".join(by_id[0][0].labels.values()), by_id[0][0], by_id[1][0])]
    for kind in ("method", "model"):
        names = {c.labels.get(kind) for c in cells}
        if {a, b} <= names:
            found = _pairings(cells, kind, a, b)
            if not found:
                raise UserError(f"{kind}s '{a}' and '{b}' have no task in common in {root}.")
            return _told_apart(found)
    known = sorted({str(c.labels[k]) for c in cells for k in ("method", "model") if c.labels.get(k)})
    missing = next((text for text in (a, b) if text not in known), None)
    if missing is None:
        raise UserError(f"'{a}' and '{b}' are of two kinds: give two methods or two models.")
    unnamed = [f" Left out: {cell.problem}" for cell in cells if not cell.labels]
    raise UserError(
        f"'{missing}' is no run, method or model in {root}: {nearest(missing, known)} "
        f"A run is named by its folder or the first 6 digits of its id; A and B must be of one kind.{''.join(unnamed)}"
    )


def _is_path(text: str) -> bool:
    """A bare name may be that of a model whose folder happens to stand here."""
    folder = Path(text)
    return folder.is_dir() and (len(folder.parts) > 1 or (folder / "samples.jsonl").exists())


def _folder(text: str) -> CellRecord:
    if not (Path(text) / "config.json").exists():
        raise UserError(f"{text} is not the folder of a run (no config.json). Give results/runs/<id>.")
    return read_cell(Path(text))


def _pairings(cells: list[CellRecord], kind: str, a: str, b: str) -> list[Pairing]:
    """A and B under every model (or method) and task; of several runs under one name the pairs that can be compared."""
    rest = [k for k in ("model", "method", "task") if k != kind]
    sides: dict[tuple[str, ...], dict[str, list[CellRecord]]] = {}
    for cell in cells:
        if cell.labels.get(kind) in (a, b):
            place = sides.setdefault(tuple(cell.labels.get(k, "?") for k in rest), {})
            place.setdefault(cell.labels[kind], []).append(cell)
    out = []
    for name, side in sorted(sides.items()):
        both = [(x, y) for x in side.get(a, []) for y in side.get(b, []) if x.run_id != y.run_id]
        able = [pair for pair in both if not incomparable(*pair)]
        out += [(" / ".join(name), x, y) for x, y in (able or both[:1])]
    return out


def _told_apart(pairings: Sequence[Pairing]) -> list[Pairing]:
    """Pairings of one name say what sets them apart: settings that both sides of a pairing share, else its run ids."""
    same: dict[str, list[Pairing]] = {}
    for pairing in pairings:
        same.setdefault(pairing[0], []).append(pairing)
    out = []
    for name, group in same.items():
        settings = [_shared(x, y) for _, x, y in group]
        for (_, x, y), note in zip(group, notes(settings), strict=True):
            apart = note or f"{x.run_id[:6]}, {y.run_id[:6]}"
            out.append((f"{name} ({apart})" if len(group) > 1 else name, x, y))
    return out


def _shared(a: CellRecord, b: CellRecord) -> Mapping[str, Any]:
    """The parts of the two identities that are equal."""
    ours, theirs = (cell.config.get("identity") or {} for cell in (a, b))
    return {key: value for key, value in ours.items() if key in theirs and theirs[key] == value}


def _print(
    name: str, a: CellRecord, b: CellRecord, rows: list[Compared], headline: float | None, labels: tuple[str, str],
    effect: float, left_out: int, console: Console,
) -> None:  # fmt: skip
    whole = [r for r in rows if not r.by]
    parts = [r for r in rows if len(r.by) == 1]
    ps = [headline, *(r.difference.p for r in whole[1:]), *holm([r.difference.p for r in parts])]
    sides = ", ".join(f"{x} = {_named(label, cell)}" for x, label, cell in zip("AB", labels, (a, b), strict=True))
    console.print(Text(f"\n{plain(name)}: {sides}", style="bold"))
    for table in _tables([*zip([*whole, *parts], ps, strict=True)], effect, console.width):
        console.print(table)
    console.print(Text("\n".join(_facts(a, b, whole[0], effect, left_out)), style="dim"), soft_wrap=True)


def _named(label: str, cell: CellRecord) -> str:
    """What the user called a side, with the phase in which its method read the question where it had the choice."""
    phase = question(cell)
    return plain(label) + (f" (question in the {phase})" if phase else "")


def _tables(rows: Sequence[tuple[Compared, float | None]], effect: float, width: int) -> list[Table]:
    """One line for each number, in as few tables as fit `width`."""

    def column(heads: tuple[str, ...], cell: Callable[[Compared, float | None], tuple[str, ...]]) -> Column:
        return Column(heads, [tuple(map(Text, cell(row, p))) for row, p in rows])

    return tables(
        column(("metric",), lambda row, p: (_name(row),)),
        [
            column(("A",), lambda row, p: ("-" if row.a is None else shown(row.a, row.metric),)),
            column(("B",), lambda row, p: ("-" if row.b is None else shown(row.b, row.metric),)),
            column(("A - B", "95 % interval"), _difference),
            column(("p",), lambda row, p: ((row.difference.reason or "-") if p is None else f"{p:.2g}",)),
            column(("n",), lambda row, p: (str(row.difference.n),)),
            column(("n needed",), lambda row, p: (_needed(row, effect),)),
        ],
        width,
    )


def _name(row: Compared) -> str:
    part = ", ".join(f"{plain(str(k))}={plain(str(v))}" for k, v in row.by.items()) or "all"
    return plain(row.metric.name) + (" %" if row.metric.percent else "") + f"  {part}"


def _difference(row: Compared, p: float | None) -> tuple[str, str]:
    d, mark = row.difference, " *" if p is not None and p < 0.05 else ""
    return shown(d.value or 0.0, row.metric, True) + mark, (
        bounds(asdict(d), row.metric, True) if d.low is not None else "-"
    )


def _needed(row: Compared, effect: float) -> str:
    needed = examples_for(row.difference, effect) if row.metric.percent and not row.by else None
    return "-" if needed is None else f"{needed:,}"


def _facts(a: CellRecord, b: CellRecord, headline: Compared, effect: float, left_out: int) -> list[str]:
    lines, n = [], headline.difference.n
    needed = examples_for(headline.difference, effect) if headline.metric.percent else None
    if needed is not None:
        enough = "these are enough" if needed <= n else f"here are {n:,}"
        lines.append(
            f"power: to see a difference of {100 * effect:g} point(s) you need about {needed:,} examples; {enough}"
        )
    if left_out > 0:
        lines.append(f"{left_out} example(s) stand in one of the two only and are left out")
    for r in ratios(a, b):
        value = f"{r.value:.2f}x [{r.low:.2f}, {r.high:.2f}]" if not r.not_judged else f"not judged: {r.not_judged}"
        lines.append(f"{r.name}: {value}")
    lines += [f"differs: {key}: {_brief(x)} / {_brief(y)}" for key, x, y in differences(a, b)]
    return lines


def _brief(value: Any) -> str:
    text = plain(str(value))
    return text if len(text) <= 60 else text[:57] + "..."
