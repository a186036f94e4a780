"""config.json of a cell: written when the cell is opened first; of it only the part `identity` may never change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.disk.whole import appears, create_json, read_json, remedy, write_json
from harness.errors import UserError
from harness.records.cells import SCHEMA, check_schema
from harness.records.differing import differing


class Described:
    """`config`: what it should say. Labels and facts of the latest command win, as soon as it holds the cell."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.file, self.config = folder / "config.json", config

    def open(self, has_samples: bool) -> None:
        """Create the file if the cell is new. `UserError` if it is another cell's, or missing beside samples."""
        if not self.file.exists():
            if has_samples and not appears(self.file):
                raise UserError(
                    f"{self.file} is missing although there are samples beside it. {remedy(self.file.parent)}"
                )
            create_json(self.file, self._wanted)
        self._stored()

    @property
    def is_outdated(self) -> bool:
        """Whether it holds other labels or facts."""
        return self._stored() != self._wanted

    def write(self) -> None:
        """Bring it up to date; for whoever holds the cell, since it is sealed with the rest."""
        if self.is_outdated:
            write_json(self.file, self._wanted)

    @property
    def _wanted(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **self.config}

    def _stored(self) -> dict[str, Any]:
        stored = read_json(self.file)
        check_schema(stored, self.file)
        keys = differing(stored.get("identity", {}), self.config.get("identity", {}))
        if keys:
            raise UserError(
                f"{self.file} describes another cell: {', '.join(keys)} differ from what is asked now. A result never changes "
                f"its meaning. {remedy(self.file.parent)}"
            )
        return stored
