"""The contract of a probe: a method that only looks. It asks a task's questions as they are, and writes tables.

A probe has the hooks of a method, all of which leave what they see alone (return None). A cell of a probe is run, stored,
resumed and shown like any other; its samples hold the rows that were seen on them, and what it concludes from all rows is
stored beside them. This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.contracts.asker import Answer
from harness.contracts.call import Request
from harness.contracts.example import Example
from harness.contracts.lesson import Learned
from harness.contracts.method import Method
from harness.contracts.table import Column, Row, Table, averaged


@dataclass(frozen=True, kw_only=True)
class Probe(Method):
    """Base class of all probes. Subclasses are `@dataclass(frozen=True, kw_only=True)`.

    Examples are asked one at a time, so every tensor that a hook is shown has one sample. What hooks want to remember for
    `rows` they keep in `ctx.request.state`.
    """

    group = "probe"
    batching = "one"
    columns: ClassVar[tuple[Column, ...]] = ()  # of the rows
    wants: ClassVar[str] = (
        "an example"  # what `reads` looks for, in words: "a question whose answer stands in its prompt"
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        acting = [hook.name for hook in cls.hooks if hook.rewrites_prompt or hook.at == "search"]
        if acting:
            raise TypeError(f"{cls.__name__} overrides {', '.join(acting)}: a probe only looks")

    @property
    def leaves_out(self) -> bool:
        return False

    def reads(self, example: Example) -> bool:
        """Whether there is something to see in this example. A task without such an example is refused."""
        return True

    def rows(self, example: Example, request: Request, answer: Answer) -> Iterable[Row]:
        """What was seen on one example, in the order of `columns`; nothing is an answer, too.

        Called once the example was answered. `request` (one sample; of a dialogue its last turn) holds what the hooks put
        into its `state`, and runs further forwards: these change nothing. It is the same in `heed probe` and in a calibration.
        """
        raise NotImplementedError

    def tells(self, rows: Sequence[Row]) -> bool:
        """Whether the rows of one example count as something seen; a calibration that has seen enough ends."""
        return bool(rows)

    def conclude(self, rows: Sequence[Sequence[Row]]) -> Learned:
        """Tables, and tensors for methods that act on them, from the rows of every example that `reads` accepts, in the
        order of the examples: a pure function. `UserError` if nothing can be concluded. Here: the mean of every number over
        the examples.
        """
        return Learned(tables={"mean": averaged(Table(self.columns, tuple(row for one in rows for row in one)))})
