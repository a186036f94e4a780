"""One cell from its records on disk to its records on disk: what is missing, the proof, the end. What it asks of the model
is in `asked`, the samples are computed in `samples`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from harness.analysis.summarise import summarise
from harness.disk.whole import read_json
from harness.errors import UserError
from harness.plan.cells import Cell
from harness.plan.refusals import check_question, check_search
from harness.records.cells import CellRecord, read_cell
from harness.records.store import CellStore
from harness.running.asked import Asked
from harness.running.lessons import Lessons
from harness.running.once import Once
from harness.running.settings import Progress, RunSettings

if TYPE_CHECKING:
    from harness.attention.attach import Attached
    from harness.models.inputs import Sample
    from harness.models.view import View

LEVELS = ("off", "quick", "full")
MORE_ERRORS = 10  # failing samples beyond the allowed ones, after which the rest is not tried


class CellRun:
    """`begin`, then the samples of `todo`, then `conclude`. Raises `UserError` for what ends the cell."""

    def __init__(
        self, cell: Cell, store: CellStore, view: Once, data: Once, lessons: Lessons, settings: RunSettings, progress: Progress,
    ) -> None:  # fmt: skip
        self.cell, self.store, self.settings, self.progress = cell, store, settings, progress
        self._view, self._data = view, data
        self._artifact = Once(lambda: lessons.tensors(cell))
        self._fields: dict[int, float | None] = {}
        self.todo: set[int] = set()  # the samples that this process has to compute
        self.n_errors = 0
        self.seconds, self.tokens = 0.0, 0  # of this session

    @property
    def view(self) -> View:
        return self._view()

    @cached_property
    def asked(self) -> Asked:
        """What it asks of the model."""
        return Asked(self.cell, self.view, self._data(), self.settings)

    # -- before the samples -------------------------------------------------------------------------------------------

    def begin(self, dense: Cell | None) -> str | None:
        """`done` or `kept` if the cell was finished before; None: there is work, and the method proved that it works."""
        if self.store.done and int(self._record().metrics.get("n_errors") or 0) > self.settings.allow_errors:
            self.store.reopen()  # it was finished without samples that are wanted now
        if self.store.done or not self.store.claim():
            return "done" if self._complete(dense) else "kept"
        from harness.attention.attach import check
        from harness.attention.refusals import check_watched

        check_watched(self.cell.method, self.cell.task)
        check_search(self.cell.method, self.cell.method_label, self.settings.decoding.search)
        check_question(self.cell.method, self.cell.method_label, self.cell.task, self.cell.task_label)
        check(self.view, self.cell.method, self.settings.lowering)  # before questions and `transform` meet the model
        asked = self.asked
        asked.check_turn()
        finished = self.store.finished()
        i, n = self.settings.shard or (0, 1)
        mine = (k for number, batch in enumerate(asked.batches) if number % n == i for k in batch)
        self.todo = {k for k in mine if asked.examples[k].id not in finished}
        self.store.clear_errors()
        if self.todo:
            self.store.write_json("engaged.json", asked.prove(self._artifact()))
        return None

    def _record(self) -> CellRecord:
        """What is stored of the cell; `UserError` if it is damaged."""
        record = read_cell(self.store.path)
        if record.problem:
            raise UserError(record.problem)
        return record

    def prepared(self) -> Attached:
        """The method, ready to be put to work."""
        from harness.attention.attach import prepared

        return prepared(self.view, self.cell.method, self.settings.lowering, self._artifact())

    # -- samples ------------------------------------------------------------------------------------------------------

    def failed(self, errors: Sequence[dict[str, str]]) -> None:
        """Record samples that raised. `UserError` when so many did that the rest is not tried."""
        if not errors:
            return
        self.store.record_errors(errors)
        self.n_errors += len(errors)
        if self.n_errors > self.settings.allow_errors + MORE_ERRORS:
            raise UserError(self._errors(errors[-1]) + " The rest was not tried.")

    def _errors(self, error: Mapping[str, str]) -> str:
        return (
            f"{self.n_errors} sample(s) failed; '{error['id']}' with {error['kind']}: {error['message']}. Tracebacks: "
            f"{self.store.path / 'errors.jsonl'}. The other samples are kept: the same command tries these alone again, and with "
            f"allow_errors={self.n_errors} the cell ends without them."
        )

    # -- after the samples --------------------------------------------------------------------------------------------

    def conclude(self, dense: Cell | None) -> str:
        """Statistics and the seal: `done`, or `partial` if other shards still have work."""
        finished = self.store.finished()
        errors = {e["id"]: e for e in self.store.errors() if e["id"] not in finished}
        order = [self.asked.examples[i].id for batch in self.asked.batches for i in batch]
        if any(key not in finished and key not in errors for key in order):
            return "partial"
        self.n_errors = len(errors)
        if self.n_errors > self.settings.allow_errors:
            raise UserError(self._errors(next(iter(errors.values()))))
        wanted = [key for key in order if key not in errors]
        if self.store.is_split or list(finished) != wanted:
            if not self.store.merge(wanted):
                return "kept" if self.store.done else "partial"
            finished = self.store.finished()
        if self.tokens:
            self.store.write_json("cost.json", {"seconds": self.seconds, "tokens": self.tokens})
        self._efficiency()
        rows = [finished[e.id] for e in self.asked.examples if e.id in finished]
        self._summary_and_figures(rows)
        facts, skipped = self.store.config["task_facts"], self.asked.skipped
        metrics = summarise(facts, rows, self._dense_rows(dense), len(skipped))
        beside = self._told(rows) | {
            "n_errors": self.n_errors,
            "skipped": dict(Counter(item.reason for item in skipped)),
        }
        self.store.finish(metrics | {key: value for key, value in beside.items() if value})
        return "done"

    def _told(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """What stands in the metrics beside the statistics."""
        return {}

    def _summary_and_figures(self, rows: list[dict[str, Any]]) -> None:
        """What the task itself makes of all samples."""
        told = [self._for_figures(row) for row in rows]
        if (summary := self.cell.task.summary(told)) is not None:
            self.store.write_json("summary.json", dict(summary))
        self.cell.task.figures(told, self.store.figures)

    def _for_figures(self, row: dict[str, Any]) -> dict[str, Any]:
        """A sample row with what a picture may want to say about the method."""
        n, layers = row["n_prompt_tokens"], self.view.n_layers
        if n not in self._fields:
            self._fields[n] = self.cell.method.receptive_field(n, layers)
        return row | {"method": self.cell.method_label, "receptive_field": self._fields[n]}

    def _complete(self, dense: Cell | None) -> bool:
        """What a finished cell may still lack: a closer look at speed, or a baseline that was run later."""
        slow = self._efficiency_missing()
        self._efficiency()
        record = self._record()
        rows = self._dense_rows(dense) if record.metrics.get("vs_dense") is None else None
        if rows is not None:
            skipped = int(record.metrics.get("n_skipped") or 0)
            new = summarise(self.store.config["task_facts"], record.samples(), rows, skipped)
            kept = {k: v for k, v in record.metrics.items() if k in ("n_errors", "skipped")}
            self.store.finish(new | kept)
        return slow or rows is not None

    def _efficiency_missing(self) -> bool:
        file = self.store.path / "efficiency.json"
        stored = read_json(file).get("level", "off") if file.exists() else "off"
        return LEVELS.index(self.settings.efficiency) > (LEVELS.index(stored) if stored in LEVELS else 0)

    def _efficiency(self) -> None:
        """Speed and memory, measured apart from accuracy on the longest prompt; nothing is shared there."""
        level = self.settings.efficiency
        if level == "off" or not self._efficiency_missing():
            return
        from harness.asking.transform import transformed
        from harness.efficiency.measure import NEW_TOKENS, measure

        prompt: Sample = max(self.asked.samples, key=len)
        room = self.view.max_positions and self.view.max_positions - NEW_TOKENS[level]
        if room and len(prompt) > room:  # speed needs room for its own decode steps, whatever the task asks for
            prompt = prompt.shortened(room)
        self.progress.note(f"measuring speed: {self.cell.label}")
        prepare = partial(transformed, self.view, self.cell.method) if self.cell.method.rewrites_prompt else None
        attached = self.prepared()
        with attached.active():
            measured = measure(self.view, prompt, level, attached, prepare=prepare)
            simulated = bool(attached.report().get("simulated", False))
        self.store.write_json("efficiency.json", {"simulated": simulated, **measured, "level": level})

    def _dense_rows(self, dense: Cell | None) -> list[dict[str, Any]] | None:
        if dense is None or dense.run_id == self.cell.run_id:
            return None
        record = read_cell(self.settings.root / "runs" / dense.run_id)
        return record.samples() if record.done else None
