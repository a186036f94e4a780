"""One cell as a line of the leaderboard, with all that is found out about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.records.cells import CellRecord
from harness.report.alarms import Alarm


@dataclass
class Scan:
    """What was seen in one cell. `equal` of `compared` outputs are the same text as dense's."""

    seen: int = 0
    more: bool = False  # samples beyond `examples.SCANNED` were not looked at
    equal: int = 0
    compared: int = 0
    worse: int = 0
    better: int = 0
    problem: str = ""
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Line:
    """One cell in a block. `row`: as of `rows_for_table`. `note`: in which phase the method read the question, and what
    sets it apart from others with the same label.
    """

    cell: CellRecord
    row: dict[str, Any]
    alarms: list[Alarm] = field(default_factory=list)
    scan: Scan = field(default_factory=Scan)
    note: str = ""

    @property
    def name(self) -> str:
        """The method's label, with what tells it apart where a label alone does not."""
        return f"{self.row['method']} ({self.note})" if self.note else self.row["method"]
