"""The records of `heed bench`: one file for each configuration and machine, to which every run appends.

`<results>/bench/<id>.json`, where the id is a hash of what decides the numbers (model, methods with their sources, kind,
lengths, batches, steps, lowering, seed) and of the machine's name. `runs` is a list, the newest last; a finished run is
never changed. A run holds the peaks of its machine, where it comes from, and its points (`bench.row` says what a row
holds). A run that was interrupted goes on where it stopped, as long as it is the last one. What a user sees (table,
curves, CSV) is made from this file alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.disk.whole import disk_error, read_json, write_json
from harness.efficiency.machine import Peaks
from harness.errors import UserError
from harness.identity.run_id import canonical, sha256
from harness.records import provenance

VERSION = 1


class BenchRecord:
    """The record of one configuration on one machine."""

    def __init__(self, root: Path, about: Mapping[str, Any], shown: Mapping[str, Any]) -> None:
        """`about`: what the id is made of. `shown`: labels and parameters for people."""
        self.id = sha256(canonical({"version": VERSION, **about}))[:16]
        self.path = root / "bench" / f"{self.id}.json"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(self.path, error) from error
        self.content: dict[str, Any] = {"version": VERSION, "about": dict(about), "shown": dict(shown), "runs": []}
        if self.path.exists():
            stored = read_json(self.path)
            if canonical(stored.get("about")) != canonical(self.content["about"]):
                raise UserError(f"{self.path} holds another configuration than its name says; move it away.")
            self.content["runs"] = stored["runs"]

    def begin(self, settings: Mapping[str, Any], peaks: Peaks, hardware: Mapping[str, Any]) -> bool:
        """Start a run, or go on with the last one if it was interrupted, with the same settings and code (True)."""
        settings, origin = json.loads(json.dumps(settings)), provenance.collect()
        last = self.content["runs"][-1] if self.content["runs"] else None
        if last and not last["finished"] and (last["settings"], last["provenance"]) == (settings, origin):
            return True
        run = {"started": provenance.now(), "finished": "", "settings": settings, "peaks": asdict(peaks)}
        run |= {"hardware": dict(hardware), "provenance": origin, "points": []}
        self.content["runs"].append(run)
        return False

    @property
    def run(self) -> dict[str, Any]:
        """The newest run."""
        return self.content["runs"][-1]

    def has(self, n: int, batch: int) -> bool:
        """Whether the newest run holds this point."""
        return any((p["length"], p["batch"]) == (n, batch) for p in self.run["points"])

    def keep(self, point: dict[str, Any], peaks: Peaks) -> None:
        """Append one point, and the peaks of the machine where they are better; on the disk when this returns."""
        self.run["points"].append(point)
        self.run["peaks"] = asdict(Peaks(**self.run["peaks"]).best(peaks))
        write_json(self.path, self.content)

    def finish(self) -> None:
        """The newest run is complete."""
        self.run["finished"] = provenance.now()
        write_json(self.path, self.content)
