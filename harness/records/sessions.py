"""The sessions of a cell in provenance.json: who worked on it, with what, from when to when. A shard writes its own file.

Times are for people. They may run backwards if a clock was set; nothing is sorted or decided by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.disk.whole import remove, write_json
from harness.records import provenance, shards

NAME = "provenance.json"


class Session:
    """This process's entry."""

    def __init__(self, folder: Path, shard: shards.Shard | None, facts: Mapping[str, Any]) -> None:
        self.folder, self.file, self.facts = folder, shards.place(folder, NAME, shard), dict(facts)
        self._entry: dict[str, Any] | None = None

    def begin(self) -> None:
        """Note that work has begun, once."""
        if self._entry is None:
            self._entry = {"started": provenance.now(), "finished": None, **provenance.collect(), **self.facts}
            stored = shards.sessions_in(self.file) if self.file.exists() else []
            write_json(self.file, {"sessions": [*stored, self._entry]}, named=False)

    def end(self) -> None:
        """Note that it is over, for now."""
        if self._entry is not None and self.file.exists():
            write_json(self.file, {"sessions": self._ended(shards.sessions_in(self.file))})

    def settle(self) -> None:
        """The end of the cell: one provenance.json, whoever wrote the sessions."""
        sessions = self._ended(shards.sessions(self.folder))
        if sessions:
            write_json(self.folder / NAME, {"sessions": sessions}, named=False)
        for file in shards.parts(self.folder, NAME):
            remove(file)

    def _ended(self, sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for i in reversed(range(len(sessions))):
            if self._entry is not None and sessions[i] == self._entry:
                self._entry = sessions[i] = {**self._entry, "finished": provenance.now()}
                break
        return sessions
