"""Executes a plan on this machine, in one loop: load a model once, prepare a task's examples once, run its cells, dense first.

Everything a user sees is read back from the records that this module writes; nothing is printed from live results.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness import calibrate
from harness.config import BASELINE
from harness.contracts.method import Draft
from harness.contracts.task import Example, Skipped
from harness.data import evenly
from harness.errors import NotEngaged, Unsupported, UserError
from harness.generation.decoding import GREEDY, Decoding
from harness.identity import canonical
from harness.plan import Cell
from harness.prepare import prepared
from harness.records.cells import read_cell
from harness.records.files import read_json
from harness.records.store import CellStore
from harness.records.summarise import summarise

if TYPE_CHECKING:
    from harness.attention.attach import Attached
    from harness.models.inputs import Sample
    from harness.models.view import View

LEVELS = ("off", "quick", "full")


@dataclass(frozen=True)
class Settings:
    """What shapes a run and stays out of its identity."""

    root: Path
    preset: str = "ci"
    limit: int | None = None
    efficiency: Literal["off", "quick", "full"] = "quick"
    batch_tokens: int = 8192
    lowering: str = "auto"
    decoding: Decoding = GREEDY
    share: bool = True  # prompts about one picture go on from one prefill, where the method allows it


@dataclass(frozen=True)
class Outcome:
    """How one cell ended: `done` now, `kept` from an earlier run, `refused` (the method cannot serve this model or search)
    or `failed`, with the reason.
    """

    cell: Cell
    status: str
    reason: str = ""


class Progress:
    """What the loop reports while it works; the command line shows it as a bar, tests ignore it."""

    def start(self, cell: Cell, tokens: int, done: int) -> None: ...
    def advance(self, tokens: int) -> None: ...
    def note(self, text: str) -> None: ...
    def finish(self, outcome: Outcome) -> None: ...


def execute(
    cells: Sequence[Cell],
    settings: Settings,
    progress: Progress | None = None,
    after: Callable[[Cell], None] | None = None,
) -> list[Outcome]:
    """Run every cell that is not finished; `after` is called with each cell whose records were completed now."""
    progress = progress or Progress()
    outcomes = []
    for _, same_model in groupby(cells, key=lambda c: c.model_label):
        group = list(same_model)
        loaded = Lazy(partial(_load, group[0], progress))
        for _, same_task in groupby(group, key=lambda c: c.task_label):
            for outcome in _run_task(list(same_task), loaded, settings, progress):
                progress.finish(outcome)
                outcomes.append(outcome)
                if outcome.status == "done" and after:
                    after(outcome.cell)
    return outcomes


def _load(cell: Cell, progress: Progress) -> View:
    progress.note(f"loading {cell.model_label}")
    return cell.spec.load()


class Lazy:
    """A value made on first use: a plan whose cells are all finished loads no model and prepares no data.

    What cannot be made is not tried again for the next cell: it fails with the same words.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: list[Any] = []
        self._error: UserError | None = None

    def __call__(self) -> Any:
        if self._error is not None:
            raise self._error
        if not self._made:
            try:
                self._made.append(self._make())
            except UserError as error:
                self._error = error
                raise
        return self._made[0]


def _run_task(cells: list[Cell], view: Lazy, settings: Settings, progress: Progress) -> Iterator[Outcome]:
    data = Lazy(lambda: task_data(cells[0], view(), settings, progress))
    samples = Lazy(lambda: [_sample(cells[0], view(), e, settings.share) for e in data()[0]])
    dense = next((c for c in cells if c.method_label == BASELINE), None)
    for cell in cells:
        try:
            with CellStore(settings.root, cell.run_id, cell.config(settings.preset)) as store:
                yield _run_cell(cell, CellRun(cell, store, view, data, samples, settings, progress), dense)
        except UserError as error:  # the folder itself cannot be used
            yield Outcome(cell, "failed", str(error))


def _run_cell(cell: Cell, work: CellRun, dense: Cell | None) -> Outcome:
    try:
        return Outcome(cell, "done" if work.run(dense) else "kept")
    except UserError as error:
        if not work.store.done:
            work.store.fail(type(error).__name__, str(error))
        return Outcome(cell, "refused" if isinstance(error, Unsupported) else "failed", str(error))


def task_data(
    cell: Cell, view: View, settings: Settings, progress: Progress | None = None
) -> tuple[list[Example], list[Skipped]]:
    """Examples of the cell's task in the order in which `limit` takes them, and what the task could not build."""
    task, limit = cell.task, view.max_positions
    if limit and task.lengths_needed() > limit:
        raise UserError(
            f"task '{cell.task_label}' needs {task.lengths_needed()} positions, but model '{cell.model_label}' has {limit} "
            f"(max_position_embeddings). Choose shorter lengths (task.{cell.task_label}.lengths=[...]), or raise "
            f"model.{cell.model_label}.max_positions if the model was made to go further."
        )
    if progress:
        progress.note(f"preparing {cell.task_label} for {cell.model_label}")
    tokens = tokens_of(cell.task.tokenizer, view)
    items = prepared(task, tokens, settings.root / "data", canonical(cell.identity["task"]))
    examples = [e for e in items if isinstance(e, Example)]
    skipped = [s for s in items if isinstance(s, Skipped)]
    if not examples:
        why = f" The first reason: {skipped[0].reason}" if skipped else ""
        raise UserError(
            f"task '{cell.task_label}' has no example that fits these settings ({len(skipped)} skipped).{why}"
        )
    return evenly(examples, task.by)[: settings.limit], skipped


def _sample(cell: Cell, view: View, example: Example, share: bool) -> Sample:
    """What the model reads of an example, its pictures processed. Without `share` nobody knows that two are the same."""
    from harness.models.inputs import Sample, sample_of

    if example.input_ids:
        return Sample(example.input_ids, Draft(example.id, ""))
    draft = calibrate.draft_of(cell.task, example)
    return sample_of(view, draft if share else replace(draft, image_key=""))


def tokens_of(tokenizer: str | None, view: Any) -> Any:
    """The tokenizer that a task measures lengths with: its own option, or the model's."""
    if tokenizer is None:
        return view
    from harness.models.load import ModelSpec

    return ModelSpec(path=tokenizer).tokens()


class CellRun:
    """One cell from its records on disk to its records on disk."""

    def __init__(
        self,
        cell: Cell,
        store: CellStore,
        view: Lazy,
        data: Lazy,
        samples: Lazy,
        settings: Settings,
        progress: Progress,
    ) -> None:
        self.cell, self.store, self.settings, self.progress = cell, store, settings, progress
        self._view, self._data, self._plain = view, data, samples
        self._fields: dict[int, float | None] = {}
        self._artifact = Lazy(self._calibrated)

    @property
    def view(self) -> View:
        return self._view()

    def run(self, dense: Cell | None) -> bool:
        """Finish what is missing; False if nothing was."""
        if self.store.done:
            return self._complete(dense)
        from harness.attention.attach import check

        self._check_search()
        check(self.view, self.cell.method, self.settings.lowering)  # before `transform` meets the model
        examples, skipped = self._data()
        self._samples(examples)
        self._efficiency()
        finished = self.store.finished()
        rows = [finished[e.id] for e in examples]
        self.cell.task.figures([self._for_figures(row) for row in rows], self.store.figures)
        facts = self.store.config["task_facts"]
        self.store.finish(summarise(facts, rows, self._dense_rows(dense), len(skipped)))
        return True

    def _check_search(self) -> None:
        search, method = self.settings.decoding.search, self.cell.method
        if search not in method.search:
            able = " or ".join(sorted(method.search))
            raise Unsupported(
                f"Method '{self.cell.method_label}' cannot work with decoding.search={search}; it works with {able}."
            )

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
        record = read_cell(self.store.path)
        rows = self._dense_rows(dense) if record.metrics["vs_dense"] is None else None
        if rows is not None:
            self.store.finish(
                summarise(self.store.config["task_facts"], record.samples(), rows, record.metrics["n_skipped"])
            )
        return slow or rows is not None

    # -- samples ------------------------------------------------------------------------------------------------------

    def _samples(self, examples: list[Example]) -> None:
        """Compute the batches whose samples are not all on disk; a batch that was cut off half-way is computed whole again."""
        finished = self.store.finished()
        plain: list[Sample] = self._plain()
        new = [0 if e.input_ids else e.max_new_tokens for e in examples]
        lengths = self._lengths(examples, plain, new)
        batches = self._batches(plain, lengths, new)
        todo = [b for b in batches if not all(examples[i].id in finished for i in b)]
        self.store.discard_tail({examples[i].id for b in todo for i in b})
        self.progress.start(self.cell, sum(lengths) + sum(new), self._tokens(batches, lengths, new, todo))
        if not todo:
            return
        self._prove(max(range(len(plain)), key=lambda i: len(plain[i])), plain)
        started = time.perf_counter()
        with self._attach() as attached:
            for batch in todo:
                self.store.append(self._batch([examples[i] for i in batch], [plain[i] for i in batch], attached))
                self.progress.advance(sum(lengths[i] + new[i] for i in batch))
        tokens = sum(lengths[i] + new[i] for b in todo for i in b)
        self.store.write_json("cost.json", {"seconds": time.perf_counter() - started, "tokens": tokens})

    def _attach(self) -> Any:
        from harness.attention.attach import attach

        return attach(self.view, self.cell.method, lowering=self.settings.lowering, artifact=self._artifact())

    def _calibrated(self) -> dict[str, Any]:
        method = self.cell.method
        if method.calibration() is None:
            return {}
        self.progress.note(f"calibrating {self.cell.method_label} on {self.cell.model_label}")
        facts = self.cell.identity
        about = calibrate.identity_of(facts["model"], method, facts["method"], facts.get("calibration"))
        return calibrate.artifact(method, about, self.view, self.settings.root)

    def _batches(self, samples: list[Sample], lengths: list[int], new: list[int]) -> list[list[int]]:
        """Indices of the samples that are computed together: by picture where they share its prefill, else by length."""
        from harness.generation.batches import plan_batches, plan_groups

        if self._shares(samples):
            return plan_groups([s.draft.image_key for s in samples], lengths, new, self.settings.batch_tokens)
        return plan_batches(lengths, new, self.settings.batch_tokens, self.cell.method.batching)

    def _shares(self, samples: list[Sample]) -> bool:
        method = self.cell.method
        return (
            self.settings.share
            and self.view.vision is not None
            and not self.view.vision.reads_text
            and method.prefix_safe
            and method.batching == "any"
            and not method.overrides("transform")
            and all(s.draft.image_key for s in samples)
        )

    def _lengths(self, examples: list[Example], samples: list[Sample], new: list[int]) -> list[int]:
        """Prompt tokens of every example, those of later turns included. `UserError` if one does not fit the model."""
        from harness.generation.dialogue import positions_needed

        limit, lengths = self.view.max_positions, []
        for e, s, n in zip(examples, samples, new, strict=True):
            length = positions_needed(self.view, s, e.turns, n) - n if e.turns else len(s)
            lengths.append(length)
            if limit and length + n > limit:
                raise UserError(
                    f"Example '{e.id}' of task '{self.cell.task_label}' has {length} prompt tokens and asks for {n} new ones, but model "
                    f"'{self.cell.model_label}' has {limit} positions. Nothing is truncated here: choose shorter lengths."
                )
        return lengths

    @staticmethod
    def _tokens(batches: list[list[int]], lengths: list[int], new: list[int], todo: list[list[int]]) -> int:
        left = {i for b in todo for i in b}
        return sum(lengths[i] + new[i] for b in batches for i in b if i not in left)

    def _prove(self, longest: int, plain: list[Sample]) -> None:
        """Design law 1: engaged or error, on the longest prompt."""
        from harness.attention.engaged import prove
        from harness.models.inputs import collate

        changed = self._transformed([plain[longest]])
        # a likelihood task has no decode: acting there is not enough
        steps = 0 if self.cell.task.kind == "nll" else 2
        try:
            proof = prove(
                self.view, self.cell.method, collate(self.view, [plain[longest]]), steps=steps,
                lowering=self.settings.lowering, changed=collate(self.view, changed), artifact=self._artifact(),
            )  # fmt: skip
        except NotEngaged as error:
            raise NotEngaged(f"{self.cell.label}: {error}") from error
        self.store.write_json("engaged.json", proof)

    def _transformed(self, samples: list[Sample]) -> list[Sample]:
        """The samples after the method's `transform`."""
        method = self.cell.method
        if not method.overrides("transform"):
            return samples
        from harness.generation.ask import transformed

        return [transformed(self.view, method, s) for s in samples]

    def _batch(self, examples: list[Example], samples: list[Sample], attached: Attached) -> list[dict[str, Any]]:
        from harness.generation.batches import backoff

        def compute(part: list[int]) -> list[dict[str, Any]]:
            attached.reset()
            outputs = self._outputs([examples[i] for i in part], [samples[i] for i in part], attached)
            usage = {k: v for k, v in attached.report().items() if not k.startswith("pairs_")}  # sums over the batch
            return [self._row(examples[i], o, usage) for i, o in zip(part, outputs, strict=True)]

        return backoff(compute, list(range(len(examples))), length=lambda i: len(samples[i]))

    def _outputs(self, examples: list[Example], samples: list[Sample], attached: Attached) -> list[dict[str, Any]]:
        if self.cell.task.kind == "nll":
            from harness.generation.nll import nll

            losses = nll(self.view, [s.ids for s in samples], [e.n_scored for e in examples], attached)
            return [
                {
                    "text": json.dumps([round(x, 6) for x in loss]),
                    "n_prompt_tokens": len(s),
                    "n_new_tokens": 0,
                    "finish": "stop",
                }
                for loss, s in zip(losses, samples, strict=True)
            ]
        from harness.generation.dialogue import converse
        from harness.generation.generate import generate

        samples, limits = self._transformed(samples), [e.max_new_tokens for e in examples]
        if any(e.turns for e in examples):
            outs = converse(self.view, samples, [e.turns for e in examples], limits, attached, self.settings.decoding)
        else:
            share = self._shares(samples)
            outs = generate(self.view, samples, limits, attached, self.settings.decoding, share=share)
        return [
            {
                "text": o.text, "n_prompt_tokens": o.n_prompt, "n_new_tokens": o.n_new, "finish": o.finish,
                "kv": {"kv_bytes_logical": o.kv_bytes_logical, "kv_bytes_physical": o.kv_bytes_physical},
            }
            for o in outs
        ]  # fmt: skip

    def _row(self, example: Example, output: Mapping[str, Any], usage: Mapping[str, Any]) -> dict[str, Any]:
        score = self.cell.task.score(example, output["text"])
        out = {k: v for k, v in output.items() if k != "kv"}
        images = {"images": list(example.images)} if example.images else {}
        asked = {
            "id": example.id,
            "cluster": example.cluster,
            "prompt_sha256": example.digest,
            "meta": dict(example.meta),
        }
        asked |= {"references": list(example.references)} | images
        return asked | out | {
            "metrics": dict(score.metrics), "parsed": score.parsed, "flags": list(score.flags),
            "usage": {**usage, **output.get("kv", {})},
        }  # fmt: skip

    # -- after the samples --------------------------------------------------------------------------------------------

    def _efficiency_missing(self) -> bool:
        file = self.store.path / "efficiency.json"
        stored = read_json(file).get("level", "off") if file.exists() else "off"
        return LEVELS.index(self.settings.efficiency) > LEVELS.index(stored)

    def _efficiency(self) -> None:
        """Speed and memory, measured apart from accuracy on the longest prompt."""
        level = self.settings.efficiency
        if level == "off" or not self._efficiency_missing():
            return
        from harness.efficiency.measure import NEW_TOKENS, measure

        prompt: Sample = max(self._plain(), key=len)
        room = self.view.max_positions and self.view.max_positions - NEW_TOKENS[level]
        if room and len(prompt) > room:  # speed needs room for its own decode steps, whatever the task asks for
            prompt = replace(prompt, ids=prompt.ids[:room])
        self.progress.note(f"measuring speed: {self.cell.label}")
        prepare = (lambda s: self._transformed([s])[0]) if self.cell.method.overrides("transform") else None
        with self._attach() as attached:
            measured = measure(self.view, prompt, level, attached, prepare=prepare)
            simulated = bool(attached.report().get("simulated", False))
        self.store.write_json("efficiency.json", {"simulated": simulated, **measured, "level": level})

    def _dense_rows(self, dense: Cell | None) -> list[dict[str, Any]] | None:
        if dense is None or dense.run_id == self.cell.run_id:
            return None
        record = read_cell(self.settings.root / "runs" / dense.run_id)
        return record.samples() if record.done else None
