"""Reads the file that the tracker writes in offline mode: blocks of 32 KiB with records in LevelDB's log framing."""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7
FULL, LAST = 1, 4


def records(file: Path) -> Iterator[Any]:
    """The protobuf records of a `run-<id>.wandb` file."""
    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
    data = file.read_bytes()
    assert data.startswith(b":W&B")
    at, parts = FILE_HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + HEADER])
        parts += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (FULL, LAST):
            record = messages.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def read_back(file: Path) -> dict[str, Any]:
    """Everything a person would see: run facts, config, summary and history, as plain values."""
    seen: dict[str, Any] = {"config": {}, "summary": {}, "history": {}, "exit": None}
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            seen |= {"id": run.run_id, "project": run.project, "group": run.run_group, "name": run.display_name}
            seen["config"] |= _values(run.config.update)
        elif kind == "summary":
            seen["summary"] |= _values(record.summary.update)
        elif kind == "history":
            seen["history"] |= _values(record.history.item)
        elif kind == "exit":
            seen["exit"] = record.exit.exit_code
    return seen


def _values(items: Any) -> dict[str, Any]:
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
