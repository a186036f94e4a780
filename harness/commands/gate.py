"""`heed gate`: the verdict on the terminal, as Markdown for a pull request, and as JUnit XML for a CI server."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.gate import EXIT, NOT_COMPARABLE, WORSE, Rules, Verdict, judge, worst
from harness.disk.output import output, write_output
from harness.errors import UserError
from harness.report.numbers import bounds, shown
from harness.terminal.columns import RULE
from harness.terminal.printing import Terminal
from harness.terminal.visible import plain, visible

STYLE = {WORSE: "bold red", NOT_COMPARABLE: "yellow"}


def run(baseline: str, candidate: str, margin: float, slower: float, markdown: str | None, junit: str | None) -> int:
    """Print and write the verdicts; 0 pass, 1 a regression, 2 not comparable."""
    rules = Rules(margin / 100, slower)
    files = _files(markdown, junit, (Path(baseline), Path(candidate)))
    verdicts = judge(Path(baseline), Path(candidate), rules)
    outcome = worst(verdicts)
    console = Terminal()
    _print(verdicts, console)
    summary = f"{outcome}: {_counts(verdicts)}; margin {margin:g} points, threshold {slower:g}x"
    console.print(Text(f"\n{summary}", style=STYLE.get(outcome, "bold green")))
    texts = {"--markdown ": to_markdown(verdicts, summary), "--junit ": to_junit(verdicts)}
    for option, file in files.items():
        write_output(file, texts[option].encode())
    return EXIT[outcome]


def _files(markdown: str | None, junit: str | None, results: Sequence[Path]) -> dict[str, Path]:
    """Where the summaries go: refused before anything is judged if they cannot, or would replace a record or each other."""
    given = {option: name for option, name in (("--markdown ", markdown), ("--junit ", junit)) if name is not None}
    files = {option: output(option, name) for option, name in given.items()}
    for option, file in files.items():
        runs = [(folder / "runs").resolve() for folder in results]
        if file.is_file() and any(file.resolve().is_relative_to(folder) for folder in runs):
            raise UserError(f"{option}{file} is a record of a run, which is read here. Name another file.")
    replaced = [file.resolve() for file in files.values() if file.is_file() or not file.exists()]
    if len(set(replaced)) < len(replaced):
        raise UserError(f"--markdown and --junit name the same file, {markdown}. Name two.")
    return files


def _counts(verdicts: Sequence[Verdict]) -> str:
    found = [v.outcome for v in verdicts]
    return ", ".join(f"{found.count(outcome)} {outcome}" for outcome in EXIT if outcome in found)


def _print(verdicts: Sequence[Verdict], console: Console) -> None:
    table = Table(box=RULE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for head in ("cell", "verdict", "metric", "change", "95 % interval", "n"):
        table.add_column(head, justify="left" if head in ("cell", "verdict", "metric") else "right", overflow="fold")
    for v in verdicts:
        table.add_row(plain(v.name), Text(v.outcome, style=STYLE.get(v.outcome, "")), *map(Text, _numbers(v)))
    console.print(table)
    for v in verdicts:
        for reason in v.reasons:
            console.print(Text(f"{plain(v.name)}: {plain(reason)}", style=STYLE[v.outcome]), soft_wrap=True)
    for note, names in _notes(verdicts).items():
        console.print(Text(f"note ({len(names)} cells): {plain(note)}", style="dim"), soft_wrap=True)


def _notes(verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """Each note once, with the cells that have it."""
    out: dict[str, list[str]] = {}
    for v in verdicts:
        for note in v.notes:
            out.setdefault(note, []).append(v.name)
    return out


def _numbers(v: Verdict) -> list[str]:
    if v.headline is None:
        return ["-"] * 4
    d, metric = v.headline.difference, v.headline.metric
    return [plain(metric.name), shown(d.value or 0.0, metric, True), bounds(asdict(d), metric, True), str(d.n)]


def to_markdown(verdicts: Sequence[Verdict], summary: str) -> str:
    """A table for a pull request; names and reasons are data and are escaped."""
    lines = [f"### heed gate: {_md(summary)}", "", "| cell | verdict | metric | change | 95 % interval | n |"]
    lines += ["|---|---|---|---:|---:|---:|"]
    for v in verdicts:
        lines.append("| " + " | ".join(_md(x) for x in (v.name, v.outcome, *_numbers(v))) + " |")
    lines += ["", *(f"* **{_md(v.name)}**: {_md(reason)}" for v in verdicts for reason in v.reasons)]
    lines += [f"* note ({len(names)} cells): {_md(note)}" for note, names in _notes(verdicts).items()]
    return "\n".join(lines).rstrip() + "\n"


def _md(text: str) -> str:
    """One line in which Markdown and HTML stay text."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return " ".join(visible(text).split())


def to_junit(verdicts: Sequence[Verdict]) -> str:
    """One test case per cell: worse is a failure, not comparable an error. Characters that XML cannot hold are shown as signs."""
    counts = {"tests": len(verdicts), "failures": 0, "errors": 0}
    suite = ET.Element("testsuite", name="heed gate")
    for v in verdicts:
        case = ET.SubElement(suite, "testcase", classname="heed.gate", name=visible(v.name))
        if v.outcome in (WORSE, NOT_COMPARABLE):
            kind = "failure" if v.outcome == WORSE else "error"
            counts[f"{kind}s"] += 1
            text = visible("\n".join(v.reasons))
            ET.SubElement(case, kind, message=text[:200]).text = text
        if v.notes:
            ET.SubElement(case, "system-out").text = visible("\n".join(v.notes))
    suite.attrib |= {key: str(value) for key, value in counts.items()}
    ET.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"
