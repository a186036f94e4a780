"""Cells sorted into blocks of what can be compared: one model, one task, one setting, the baseline first.

A cell that cannot be shown (damaged, another layout, malformed) keeps its place in `Board.problems`; nothing is dropped silently.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.board_rows import rows_for_table
from harness.analysis.compare import METHOD_ONLY
from harness.analysis.probes import Probed, probed, split
from harness.contracts.metric import Metric, as_metric
from harness.records.cells import CellRecord
from harness.report.alarms import alarms
from harness.report.examples import scan
from harness.report.line import Line
from harness.report.notes import notes
from harness.report.pareto import fronts


@dataclass
class Block:
    """Comparable cells. `note` says what sets it apart from other blocks of the same model and task."""

    model: str
    task: str
    preset: str
    note: str
    metrics: list[Metric]
    lines: list[Line]

    @property
    def headline(self) -> Metric | None:
        return self.metrics[0] if self.metrics else None

    @property
    def companions(self) -> list[Metric]:
        """Metrics without which the headline says nothing."""
        return [m for m in self.metrics[1:] if m.companion]

    def fronts(self) -> dict[str, dict[str, list[int]]]:
        """Of `pareto.fronts`: indices into `lines`."""
        return fronts([one.row for one in self.lines])


@dataclass(frozen=True)
class Problem:
    """A cell that is not a result, and why. `status`: unfinished, failed, refused or damaged."""

    status: str
    name: str
    run_id: str
    reason: str


@dataclass
class Board:
    """Everything that a report shows. `counts`: cells by status. `probes` have tables in place of results."""

    blocks: list[Block]
    problems: list[Problem]
    counts: dict[str, int]
    probes: list[Probed]

    @property
    def lines(self) -> list[Line]:
        return [one for block in self.blocks for one in block.lines]


def board(cells: Sequence[CellRecord], progress: Callable[[Block], None] = lambda block: None) -> Board:
    """Blocks by model and task. `progress` is called with each block whose samples were read."""
    probes = probed(cells)
    cells = split(cells)[0]
    usable = [cell for cell in cells if cell.labels]
    unnamed = [cell for cell in cells if not cell.labels]  # nothing can be read of them
    problems = [Problem("damaged", str(cell.path), cell.run_id, cell.problem) for cell in unnamed]
    blocks = _blocks(usable)
    for block in blocks:
        scan(block.lines, block.headline)
        for one in block.lines:
            same = (one.scan.equal, one.scan.compared)
            one.alarms = alarms(one.row, one.cell.metrics, one.cell.config, same, one.cell.nonfinite)
            problems += _problems(one)
        progress(block)
    counts: dict[str, int] = {}
    problems += [Problem(p.status, p.name, p.cell.run_id, p.reason) for p in probes if p.status != "done"]
    states = [one.row["status"] for b in blocks for one in b.lines] + [p.status for p in probes]
    for status in states + ["damaged"] * (len(cells) - len(usable)):
        counts[status] = counts.get(status, 0) + 1
    return Board(blocks, problems, counts, probes)


def _problems(one: Line) -> list[Problem]:
    name = f"{one.row['model']} / {one.row['task']} / {one.name}"
    found = [(one.row["status"], one.row["reason"])] if one.row["status"] != "done" else []
    found += [("damaged", one.scan.problem)] if one.scan.problem and one.row["status"] != "damaged" else []
    return [Problem(status, name, one.cell.run_id, reason) for status, reason in found]


# -- blocks ----------------------------------------------------------------------------------------------------------


def _blocks(cells: Sequence[CellRecord]) -> list[Block]:
    members: dict[str, list[CellRecord]] = {}
    settings: dict[tuple[str, str], str] = {}  # model and task -> the first setting of theirs that is known
    for cell in sorted(cells, key=lambda cell: bool(cell.problem)):  # of a damaged cell only the labels can be believed
        setting = _setting(cell)
        first = settings.setdefault((cell.labels.get("model", "?"), cell.labels.get("task", "?")), setting)
        members.setdefault(first if cell.problem else setting, []).append(cell)
    blocks = [_block(group) for group in members.values()]
    blocks.sort(key=lambda b: (b.model, b.task, b.preset, -len(b.lines)))
    _tell_apart(blocks)
    return blocks


def _setting(cell: CellRecord) -> str:
    """Equal for a method and the baseline that it was paired with."""
    identity = cell.config.get("identity")
    same = {k: v for k, v in identity.items() if k not in METHOD_ONLY} if isinstance(identity, Mapping) else {}
    labels = [cell.labels.get(key, "?") for key in ("model", "task")]
    return json.dumps([labels, same], sort_keys=True, default=str)


def _block(group: Sequence[CellRecord]) -> Block:
    stored = {cell.run_id: cell for cell in group}
    rows = rows_for_table(group)
    lines = [Line(stored[row["run_id"]], row) for row in rows]
    facts = [one.cell.config.get("task_facts") or {} for one in sorted(lines, key=lambda o: o.row["status"] != "done")]
    metrics = [as_metric(m) for m in (facts[0].get("metrics") or [] if facts else [])]
    presets = dict.fromkeys(str(one.cell.config["preset"]) for one in lines if one.cell.config.get("preset"))
    return Block(rows[0]["model"], rows[0]["task"], ", ".join(presets) or "-", "", metrics, lines)


def _tell_apart(blocks: Sequence[Block]) -> None:
    """Blocks of the same model and task, and lines of the same method, say which keys of their settings differ."""
    same: dict[tuple[str, ...], list[Block]] = {}
    for block in blocks:
        same.setdefault((block.model, block.task), []).append(block)
        twins: dict[str, list[Line]] = {}
        for one in block.lines:
            twins.setdefault(one.row["method"], []).append(one)
        for lines in twins.values():
            for one, note in zip(lines, notes([_part(one, METHOD_ONLY) for one in lines]), strict=True):
                one.note = note if "question " in note else "; ".join(filter(None, (_protocol(one), note)))
    for group in same.values():
        for block, note in zip(group, notes([_plain_setting(block) for block in group]), strict=True):
            block.note = note


def _protocol(one: Line) -> str:
    """In which phase the question was read, in the words of `notes`; empty where the method has no choice."""
    return f"question {one.row['question']}" if one.row["question"] else ""


def _part(one: Line, keys: Sequence[str]) -> dict[str, Any]:
    identity = one.cell.config.get("identity")
    return {k: identity.get(k) for k in keys} if isinstance(identity, Mapping) else {}


def _plain_setting(block: Block) -> dict[str, Any]:
    identities = [one.cell.config.get("identity") for one in block.lines]
    identity = next((found for found in identities if isinstance(found, dict) and found), {})
    return {k: v for k, v in identity.items() if k not in METHOD_ONLY}
