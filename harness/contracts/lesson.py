"""What must be learned before a cell can run: recovery rates per layer, a head list, the weights of a network.

A lesson says what it depends on (`identity`) and how it is learned (`learn`). What came of it is stored once, under that
identity, in `results/learned/` (`harness/records/learned.py`), and read from there by every cell that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.contracts.table import Row, Table

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.asker import Answer
    from harness.contracts.call import Request
    from harness.contracts.example import Example

LOG = "log.jsonl"  # the one file of a lesson's working folder that is kept: what happened, one JSON object a line


@dataclass(frozen=True)
class Learned:
    """The result of a lesson: tensors and tables by name."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)


class Lesson(Protocol):
    """Anything with these three can be learned. A frozen dataclass does it."""

    @property
    def label(self) -> str:
        """What is learned about what, for people: `METHOD on MODEL`."""

    def identity(self) -> Mapping[str, Any]:
        """Everything that can change what is learned, and nothing else, as JSON: source, parameters, data, seed."""

    def learn(self, folder: Path, progress: Callable[[str], None]) -> Learned:
        """Learn it. `UserError` if that cannot be done.

        `folder` is the lesson's own while it learns. After `kill -9` it holds what the lesson had put there (whole files
        only: `disk/whole.py`), and the result must equal that of an uninterrupted run. Once the result is stored it is
        deleted, but for `log.jsonl`. `progress` is told in a few words what is being done; what it was told before is over.
        """


class Observer(Protocol):
    """What a calibration asks of a probe, which is one (`contracts/probe.py` says what each of these does)."""

    def reads(self, example: Example) -> bool: ...
    def rows(self, example: Example, request: Request, answer: Answer) -> Iterable[Row]: ...
    def tells(self, rows: Sequence[Row]) -> bool: ...
    def conclude(self, rows: Sequence[Sequence[Row]]) -> Learned: ...


@dataclass(frozen=True)
class Calibration:
    """What a method must know about a model before it can act on it: what `probe` concludes from the examples of a task.

    `task`: the node of that task (`_target_` and keys). `most`: examples that tell the probe something, after which it has
    seen enough; None: all of the task. The examples are asked under the probe as `heed probe` asks them, greedily.
    """

    probe: Observer
    task: Mapping[str, Any]
    most: int | None = None
