"""Where results come from: versions, commit and machine, told once however many cells share them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.records.cells import CellRecord
from harness.terminal.visible import line


class Environments:
    """`known`: {"facts", "cells" (sessions), "first", "last"} in the order in which they were met."""

    def __init__(self) -> None:
        self.known: list[dict[str, Any]] = []
        self._index: dict[str, int] = {}

    def of(self, cell: CellRecord, last: int = 3) -> list[list[Any]]:
        """[index into `known`, started, finished] of a cell's last sessions."""
        hardware = str((cell.efficiency.get("hardware") or {}).get("name") or "")
        sessions = (cell.provenance.get("sessions") or [])[-last:]
        return [[self.add(s, hardware), line(s.get("started")), line(s.get("finished") or "")] for s in sessions]

    def add(self, session: Mapping[str, Any], hardware: str) -> int:
        facts = {k: v for k, v in session.items() if k not in ("started", "finished", "versions")}
        facts |= {"hardware": hardware} if hardware else {}
        facts = {line(k, 60): line(v, 200) for k, v in facts.items() if v not in (None, "")}
        versions = session.get("versions") or {}
        facts["versions"] = line(", ".join(f"{k} {v}" for k, v in versions.items()), 600)
        key = json.dumps(facts, sort_keys=True)
        if key not in self._index:
            self._index[key] = len(self.known)
            self.known.append({"facts": facts, "cells": 0, "first": "", "last": ""})
        entry = self.known[self._index[key]]
        entry["cells"] += 1
        started, finished = (str(session.get(k) or "") for k in ("started", "finished"))
        entry["first"] = min(filter(None, (line(entry["first"]), line(started))), default="")
        entry["last"] = max(entry["last"], line(finished or started))
        return self._index[key]
