"""The leaderboard as Markdown: one table per model, task and setting; what is in doubt or missing stands beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness import __version__
from harness.report import numbers, probe_sections
from harness.report.board import Block, Board
from harness.report.line import Line
from harness.report.markdown_text import code, escape, table_row
from harness.report.origins import Environments
from harness.report.papers import COLUMNS, papers
from harness.terminal.visible import line

HEAD = ("method", "n", "vs dense", "density", "KV", "TTFT ms", "tokens/s", "memory", "alarms")
LEGEND = """Values are means with 95 % intervals; the difference to dense is paired on the same examples, and `*` marks p < 0.05
(each metric is tested by itself), `?` too few clusters to tell (fewer than six, or one outweighs the others).
Density: share of the keys that are read, prefill / decode; KV: cache bytes against dense,
logical / allocated. `simulated`: sparsity is a mask inside a dense kernel, so no speed is claimed. Times and memory are compared
only within one machine. `^` marks the front: no other method is both more accurate and less dense in decode.

Alarms are reasons to look: *beats dense* (significantly better than the baseline), *at chance* (the interval holds what guessing
reaches), *unknown answers* (more than a few could not be read), *barely engaged* (nearly everything is read, or each output
equals dense's), *partly dense* (samples too short for the method to act on count in its value), *not finite* (a stored number
is NaN or infinite)."""


def render(board: Board) -> str:
    """The whole document."""
    return "\n".join(_lines(board)) + "\n"


def _lines(board: Board) -> Iterator[str]:
    yield "# Leaderboard\n"
    yield f"{counted(board.counts)}. Made by heed {__version__} from stored records.\n"
    yield LEGEND
    for block in board.blocks:
        yield from _table(block)
    yield from probe_sections.markdown(board.probes)
    if board.problems:
        yield "\n## Not results\n"
        for problem in board.problems:
            yield f"* **{problem.status}** {escape(problem.name)} (`{code(problem.run_id)}`): {escape(line(problem.reason, 600))}"
    yield from _published(board)
    yield from _provenance(board)


def counted(counts: Mapping[str, int]) -> str:
    """`3 done, 1 damaged`."""
    order = ("done", "unfinished", "failed", "refused", "damaged")
    return f"{sum(counts.values())} cells: " + ", ".join(f"{counts[s]} {s}" for s in order if counts.get(s))


def _table(block: Block) -> Iterator[str]:
    metric = block.headline
    yield f"\n## {escape(block.model)} / {escape(block.task)}\n"
    facts = [f"preset {block.preset}", block.note, _measured_on(block.lines)]
    facts += ["lower is better"] if metric and not metric.higher_is_better else []
    yield escape("; ".join(fact for fact in facts if fact)) + "\n"
    name = numbers.title(metric) if metric else "result"
    extra = [numbers.title(m) for m in block.companions]
    head = [HEAD[0], name, *extra, *HEAD[1:]]
    yield table_row(map(escape, head))
    yield table_row(["---", *["---:"] * (len(head) - 2), "---"])
    front = block.fronts().get("density_decode", {}).get("", [])
    for i, one in enumerate(block.lines):
        yield table_row(map(escape, _row(block, one, i in front)))


def _row(block: Block, one: Line, front: bool) -> list[str]:
    row, metric = one.row, one.row["metric"]
    values = one.cell.metrics.get("values") or {}
    done = row["status"] == "done"
    value = f"{numbers.value(row['estimate'], metric)} {numbers.interval(row['estimate'], metric)}".strip()
    value += f" ({numbers.idle(row)})" if row["idle"] else ""
    change = (
        f"{numbers.difference(row['difference'], metric)} {numbers.interval(row['difference'], metric, True)}".strip()
    )
    beside = [
        f"{numbers.value(values.get(m.name), m)} {numbers.interval(values.get(m.name), m)}".strip()
        for m in block.companions
    ]
    return [
        line(one.name, 200) + (" ^" if front else ""),
        value if done else row["status"],
        *(beside if done else ["-"] * len(beside)),
        numbers.count(row),
        change if done else "-",
        numbers.share(row["density_prefill"], row["density_decode"]),
        numbers.share(row["kv_logical"], row["kv_physical"]),
        numbers.speed(row, "ttft_ms"),
        numbers.speed(row, "decode_tokens_per_s"),
        numbers.memory(row),
        ", ".join(alarm.kind for alarm in one.alarms) or "-",
    ]


def _measured_on(lines: Sequence[Line]) -> str:
    found = sorted({one.row["hardware"] for one in lines if one.row["hardware"]})
    lengths = sorted({str(one.row["prompt_tokens"]) for one in lines if one.row["prompt_tokens"]})
    return f"speed at {' and '.join(lengths)} prompt tokens on {'; '.join(found)}" if found and lengths else ""


def _published(board: Board) -> Iterator[str]:
    """Those that have a measured number beside them; the HTML file has all."""
    found, wrong = papers(board)
    rows = [row for row in found if row["measured"] != "-"]
    if found:
        yield "\n## Published figures\n"
        yield "As papers print them, under their own protocol; not measured here: model and setting usually differ."
        yield f"Shown are {len(rows)} of {len(found)}, those with a measured number beside; the HTML file has all.\n"
    if rows:
        yield table_row(
            ("method", "task", "metric", "published", "measured here", "model of the paper", "protocol", "source")
        )
        yield table_row(["---"] * len(COLUMNS))
    for row in rows:
        yield table_row(escape(row[key]) for key in COLUMNS)
    yield from (f"\n{escape(text)}" for text in wrong)


def _provenance(board: Board) -> Iterator[str]:
    known = Environments()
    for one in board.lines:
        known.of(one.cell, last=1)
    if not known.known:
        return
    yield "\n## Provenance\n"
    for entry in known.known:
        facts: dict[str, Any] = entry["facts"]
        text = "; ".join(f"{key} {value}" for key, value in facts.items() if value)
        yield f"* {entry['cells']} cells, {escape(entry['first'])} to {escape(entry['last'])}: {escape(text)}"
    yield "\nRun ids are in the CSV and the HTML file beside this one."
