"""Cells in the layout of lm-evaluation-harness 0.4: one folder for each model and method.

    OUT/<model>__<method>/results_<time>.json             all tasks of the folder (`lm_eval.result_schema.EvalResults`)
    OUT/<model>__<method>/samples_<task>_<time>.jsonl     one line for each document and filter (`SampleResult`)

Facts of the layout: `lm_eval/result_schema.py` and `lm_eval/loggers/evaluation_tracker.py`. The time is that of the last
cell, from its records, so the same records always give the same bytes. Cells of `task=lm_eval` bring the library's own
results (their `summary.json`); other tasks stand there under their own names with our metrics. Where two cells
of one model and method hold a task of the same name, the later one has a folder of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness import __version__
from harness.analysis.board_rows import number
from harness.disk.output import write_output, write_rows
from harness.disk.whole import json_bytes, read_json
from harness.errors import UserError
from harness.exchange.lm_eval_tasks import Part, read
from harness.records.cells import CellRecord
from harness.terminal.visible import component

UNSAFE = re.compile(r'["<>:/|\\?*\[\]]+')  # what the library replaces in names of files
MERGED = ("results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples")


@dataclass(frozen=True)
class Folder:
    """The cells that share one results file."""

    name: str
    cells: tuple[tuple[CellRecord, Part], ...]


def export(cells: Sequence[CellRecord], out: Path) -> list[Path]:
    """Write finished cells below `out` and return the files."""
    return [path for folder in folders(cells) for path in _write(folder, out / safe(folder.name))]


def safe(name: str) -> str:
    """A name as the library writes it into the name of a file."""
    return component(UNSAFE.sub("__", name))


def folders(cells: Sequence[CellRecord]) -> list[Folder]:
    """Which cells share a results file: those of one model and method, as long as no task comes twice."""
    found: dict[str, list[tuple[CellRecord, Part]]] = {}
    for cell in sorted(cells, key=lambda c: (_finished(c), c.run_id)):
        part = read(cell)
        name = f"{cell.labels['model']}/{cell.labels['method']}"
        taken = {task for _, other in found.get(name, ()) for task in other.samples}
        if taken & set(part.samples):
            name = f"{name}/{cell.run_id}"
        found.setdefault(name, []).append((cell, part))
    return [Folder(name, tuple(members)) for name, members in sorted(found.items())]


def _finished(cell: CellRecord) -> str:
    times = [str(s.get("finished") or s.get("started") or "") for s in cell.provenance.get("sessions", ())]
    return max(times, default="")


def _write(folder: Folder, place: Path) -> list[Path]:
    moment = _moment(folder)
    stamp = moment.replace(tzinfo=None).isoformat(timespec="microseconds").replace(":", "-")
    samples = {task: rows for _, part in folder.cells for task, rows in part.samples.items()}
    path = place / f"results_{stamp}.json"
    written = [path]
    for task, rows in samples.items():
        written.append(place / f"samples_{safe(task)}_{stamp}.jsonl")
        write_rows(written[-1], rows)
    write_output(path, json_bytes(_results(folder, moment)))  # last: where it stands, its samples do too
    return written


def _moment(folder: Folder) -> datetime:
    latest = max(_finished(cell) for cell, _ in folder.cells)
    try:
        return datetime.fromisoformat(latest)
    except ValueError as error:
        raise UserError(
            f"{folder.cells[0][0].path / 'provenance.json'} does not say when the cell was finished, and the names of the "
            "exported files need a time."
        ) from error


def _results(folder: Folder, moment: datetime) -> dict[str, Any]:
    """The content of the results file."""
    merged: dict[str, Any] = {key: {} for key in MERGED}
    for _, part in folder.cells:
        for key in MERGED:
            merged[key] |= part.results.get(key) or {}
    if not merged["groups"]:
        del merged["groups"]  # the library leaves it out then
    return merged | _about(folder, moment)


def _about(folder: Folder, moment: datetime) -> dict[str, Any]:
    """Model, settings and environment."""
    last = _last_session(folder.cells[0][0])
    versions = last.get("versions") or {}
    asked = next((p.asked for _, p in folder.cells if p.asked), {})
    system = asked.get("system_instruction")
    return {
        "config": _config(folder, asked),
        "git_hash": last.get("commit") or None,
        "date": moment.timestamp(),
        "pretty_env_info": "\n".join(
            f"{key}: {last[key]}" for key in ("platform", "machine", "cpus", "python") if key in last
        ),
        "transformers_version": versions.get("transformers"),
        "lm_eval_version": versions.get("lm-eval"),
        "upper_git_hash": None,
        "task_hashes": {task: task_hash(rows) for _, part in folder.cells for task, rows in part.samples.items()},
        "model_source": "heed",
        "model_name": folder.name,
        "model_name_sanitized": safe(folder.name),
        "system_instruction": system,
        "system_instruction_sha": hashlib.sha256(system.encode()).hexdigest() if system else None,
        "fewshot_as_multiturn": asked.get("fewshot_as_multiturn"),
        "chat_template": None,
        "chat_template_sha": None,
        "total_evaluation_time_seconds": str(sum(_seconds(c) for c, _ in folder.cells)),
    }


def _config(folder: Folder, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The library's `config`. `asked`: the settings under which its tasks were built."""
    cell = folder.cells[0][0]
    identity, last = cell.config.get("identity") or {}, _last_session(cell)
    return {
        "model": "heed",
        "model_args": f"pretrained={cell.labels['model']},method={cell.labels['method']}",
        "model_dtype": (identity.get("model") or {}).get("dtype"),
        "model_revision": (identity.get("model") or {}).get("revision"),
        "batch_size": None,
        "batch_sizes": [],
        "device": (last.get("device") or cell.efficiency.get("device")),
        "use_cache": None,
        "limit": asked.get("limit"),
        "bootstrap_iters": 0,
        "gen_kwargs": asked.get("gen_kwargs"),
        "random_seed": 0,
        "numpy_seed": 1234,
        "torch_seed": None,
        "fewshot_seed": asked.get("fewshot_seed"),
        "heed": {
            "version": last.get("heed", __version__),
            "method": identity.get("method"),
            "decoding": identity.get("decoding"),
            "runs": {c.labels["task"]: c.run_id for c, _ in folder.cells},
        },
    }


def _last_session(cell: CellRecord) -> dict[str, Any]:
    return (cell.provenance.get("sessions") or [{}])[-1]


def task_hash(rows: Sequence[dict[str, Any]]) -> str:
    """The library's hash over the samples of a task."""
    text = "".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def _seconds(cell: CellRecord) -> float:
    file = cell.path / "cost.json"
    return number(read_json(file).get("seconds")) or 0.0 if file.exists() else 0.0
