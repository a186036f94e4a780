"""The leaderboard as CSV: one line per cell, plain numbers (fractions, not percent; milliseconds; bytes)."""

from __future__ import annotations

import csv
import io
from typing import Any

from harness.analysis.statistics import untold
from harness.report.board import Block, Board
from harness.report.line import Line
from harness.report.pareto import axis, cost
from harness.terminal.visible import spreadsheet

COLUMNS = (
    "model", "task", "preset", "setting", "method", "question", "status", "reason", "run_id", "metric", "higher_is_better", "value",
    "low", "high", "n", "skipped", "idle", "difference", "difference_low", "difference_high", "p", "significant", "untold", "alarms",
    "density_prefill", "density_decode", "kv_logical", "kv_physical", "ttft_ms", "decode_tokens_per_s", "peak_memory_bytes",
    "memory_kind", "device", "hardware", "prompt_tokens", "simulated", "companions", "heed", "commit",
)  # fmt: skip
COPIED = (
    "model", "task", "method", "question", "status", "reason", "n", "skipped", "idle", "density_prefill", "density_decode",
    "kv_logical", "kv_physical", "peak_memory_bytes", "memory_kind", "device", "hardware", "prompt_tokens", "simulated",
)  # fmt: skip


def render(board: Board) -> str:
    """The whole file. Cells that could not be read at all have a line with their status and reason."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for block in board.blocks:
        writer.writerows({k: spreadsheet(v) for k, v in _line(block, one).items()} for one in block.lines)
    shown = {one.cell.run_id for one in board.lines}
    for problem in board.problems:
        if problem.run_id not in shown:
            found = {
                "method": problem.name,
                "status": problem.status,
                "reason": problem.reason,
                "run_id": problem.run_id,
            }
            writer.writerow({k: spreadsheet(v) for k, v in found.items()})
    return out.getvalue()


def _line(block: Block, one: Line) -> dict[str, Any]:
    row, metric = one.row, one.row["metric"]
    estimate, change = row["estimate"] or {}, row["difference"] or {}
    values = one.cell.metrics.get("values") or {}
    session = (one.cell.provenance.get("sessions") or [{}])[-1]
    return {key: row[key] for key in COPIED} | {
        "preset": one.cell.config.get("preset"), "setting": ", ".join(filter(None, (block.note, one.note))), "run_id": one.cell.run_id,
        "metric": metric.name if metric else None, "higher_is_better": metric.higher_is_better if metric else None,
        **{key: estimate.get(key) for key in ("value", "low", "high")},
        "difference": change.get("value"), "difference_low": change.get("low"), "difference_high": change.get("high"),
        "p": change.get("p"), "significant": change.get("significant"), "untold": untold(change),
        "alarms": "; ".join(alarm.kind for alarm in one.alarms),
        "ttft_ms": cost(row, axis("ttft_ms")), "decode_tokens_per_s": cost(row, axis("decode_tokens_per_s")),
        "companions": "; ".join(f"{m.name}={(values.get(m.name) or {}).get('value')}" for m in block.companions),
        "heed": session.get("heed"), "commit": session.get("commit"),
    }  # fmt: skip
