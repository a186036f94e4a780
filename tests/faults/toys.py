"""A small task and two small methods that misbehave as the environment says. What they are does not change by it: the run
that failed and the run that repairs it have the same run id.

`HEED_TOY` holds JSON: `{"score": id}`, `{"begin": id}` raise for one example; `{"memory": n}` lets batches of more than n run
out of memory; `{"gate": file}` holds the method's second batch until the file is there; `{"build": seconds}` lengthens every
example that is made, `{"learn": seconds}` every one that a lesson looks at; `{"look": id}` and `{"lesson": true}` raise while it
learns, `{"die": id}` ends the process there; `{"log": file}` notes what was done.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.contracts.asker import Answer
from harness.contracts.call import Call, Request
from harness.contracts.example import Example
from harness.contracts.lesson import Calibration
from harness.contracts.lesson import Learned as Knowledge
from harness.contracts.method import Method
from harness.contracts.metric import Metric, Score
from harness.contracts.probe import Probe
from harness.contracts.question import Generate
from harness.contracts.table import Column, Row, Table
from harness.contracts.task import Task, example_rng
from harness.contracts.tokens import Tokens
from harness.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

VARIABLE = "HEED_TOY"
BEGUN: list[list[str]] = []  # the requests of this process
WORDS = ("river", "mill", "corn", "stone", "rain", "bridge", "wheel", "year", "nobody", "old")


def told(key: str) -> Any:
    """What the environment says; None if nothing."""
    return json.loads(os.environ.get(VARIABLE, "{}")).get(key)


def note(text: str) -> None:
    if file := told("log"):
        with Path(file).open("a") as log:
            log.write(f"{text}\n")


@dataclass(frozen=True, kw_only=True)
class Toy(Task):
    title: ClassVar[str] = "a few short prompts"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("even"),)

    n: int = 10

    def examples(self, tokens: Tokens) -> Iterator[Example]:
        note("build")
        for i in range(self.n):
            time.sleep(told("build") or 0)
            rng = example_rng("toy", self.seed, i)
            yield Example(f"t{i}", Generate(" ".join(rng.choices(WORDS, k=rng.randint(6, 20))), max_new_tokens=5))

    def score(self, example: Example, answer: str | None) -> Score:
        if told("score") == example.id:
            raise ZeroDivisionError(f"the scorer does not like {example.id}")
        return Score({"even": float(len(answer or "") % 2 == 0)})


@dataclass(frozen=True, kw_only=True)
class Scaled(Method):
    """Halves what attention adds to the residual stream."""

    name: ClassVar[str] = "scaled"
    title: ClassVar[str] = "attention at half strength"
    paper: ClassVar[str] = "own"

    def begin(self, request: Request) -> None:
        ids = [draft.id for draft in request.drafts]
        note("begin " + " ".join(ids))
        BEGUN.append(ids)
        while told("gate") and len(BEGUN) > 2 and not Path(told("gate")).exists():  # the first is the proof
            time.sleep(0.02)
        if told("begin") in ids:
            raise LookupError(f"the method does not like {told('begin')}")

    def attn_out(self, ctx: Call, a: Tensor) -> Tensor:
        import torch

        if told("memory") and a.shape[0] > told("memory"):
            note("out of memory")
            raise torch.OutOfMemoryError("out of memory")
        return a * 0.5


@dataclass(frozen=True, kw_only=True)
class Lengths(Probe):
    """How long prompts are."""

    name: ClassVar[str] = "lengths"
    columns = (Column("tokens"),)

    def rows(self, example: Example, request: Request, answer: Answer) -> list[Row]:
        note(f"look {example.id}")
        time.sleep(told("learn") or 0)
        if told("look") == example.id:
            raise LookupError(f"the probe does not like {example.id}")
        if told("die") == example.id:
            os.kill(os.getpid(), signal.SIGKILL)
        return [(request.inputs.ids.shape[1],)]

    def conclude(self, rows: Sequence[Sequence[Row]]) -> Knowledge:
        import torch

        note("learned")
        if told("lesson"):
            raise UserError("the prompts teach nothing")
        table = Table(self.columns, tuple(row for one in rows for row in one))
        return Knowledge(
            {"strength": 1 / torch.tensor(table.values("tokens")).float().mean().sqrt()}, {"lengths": table}
        )


@dataclass(frozen=True, kw_only=True)
class Learned(Scaled):
    """The same with a strength that is learned: the mean length of the calibration prompts decides it."""

    name: ClassVar[str] = "learned"

    def lesson(self) -> Calibration:
        return Calibration(Lengths(), {"_target_": "tests.faults.toys.Toy", "n": 3})

    def attn_out(self, ctx: Call, a: Tensor) -> Tensor:
        assert ctx.request is not None
        return a * ctx.request.artifact["strength"].to(a)
