"""The price of a cell by itself, corrected by what earlier runs took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.contracts.example import Skipped
from harness.contracts.task import Task
from harness.errors import UserError
from harness.identity.run_id import canonical
from harness.plan.cells import Cell, is_done
from harness.plan.refusals import Facts, facts, fitting, refusal
from harness.pricing import burden, earlier, model, requests
from harness.pricing.burden import Burden
from harness.pricing.cost import Cost, cost, request
from harness.pricing.earlier import Earlier
from harness.pricing.model import Model
from harness.pricing.requests import Workload
from harness.pricing.speed import Speeds, measured, of_gpu
from harness.records.stored import counted
from harness.running.settings import RunSettings

CELL = 0.2  # seconds for the records and the statistics of a cell


@dataclass(frozen=True)
class Price:
    """Of one cell, as if it shared nothing. `refused`: why the run will not compute it; then it costs nothing. `stored`:
    samples on the disk; `left`: the part that is still to be computed here. `cost` is of all samples; None: nobody knows
    what the task asks. `ratio`: what earlier runs took by what they would have been priced; None: the time is not known.
    `skipped`: examples of lengths that the model cannot read.
    """

    cell: Cell
    done: bool
    stored: int = 0
    left: float = 0.0
    asked: Workload | None = None
    model: Model | None = None
    cost: Cost | None = None
    ratio: float | None = None
    refused: str = ""
    skipped: tuple[Skipped, ...] = ()

    @property
    def todo(self) -> bool:
        """Whether the run has to compute something."""
        return not self.done and not self.refused

    @property
    def flops(self) -> float | None:
        """Operations left."""
        c = self.cost
        return None if c is None else self.left * (c.prefill.flops + c.decode.flops + c.encode.flops)

    @property
    def seconds_samples(self) -> float | None:
        """Of the samples that are left."""
        return None if self.cost is None or self.ratio is None else self.ratio * self.left * self.cost.seconds_samples

    @property
    def seconds_beside(self) -> float | None:
        """Of the proof, of measuring speed, and of the records."""
        if self.cost is None or self.ratio is None:
            return None
        return self.ratio * (self.cost.seconds_proof + self.cost.seconds_speed) + CELL

    @property
    def seconds(self) -> float | None:
        samples, beside = self.seconds_samples, self.seconds_beside
        return None if samples is None or beside is None else samples + beside

    @property
    def assumed(self) -> tuple[str, ...]:
        """What the price takes for granted or leaves out."""
        guessed = self.asked.assumed if self.asked else ()
        made = self.cost.burden if self.cost else Burden()
        return guessed + made.assumed + tuple(f"{what} (left out)" for what in made.unknown)


class Pricing:
    """Prices cells of one results folder; what was found out for one cell serves the others."""

    def __init__(
        self, plan: Sequence[Cell], settings: RunSettings, speeds: Speeds | None = None, runs: list[Earlier] | None = None
    ) -> None:  # fmt: skip
        self.settings, self.speeds, self._given = settings, speeds or measured(), speeds
        self.earlier = earlier.of_plan(plan, settings.root) if runs is None else runs
        self._models: dict[str, Model | None] = {}
        self._asked: dict[tuple[str, str], Workload | None] = {}
        self._costs: dict[Any, Cost] = {}
        self._burdens: dict[Any, Burden] = {}
        self._facts: dict[str, Facts | None] = {}
        self._fits: dict[tuple[str, str], tuple[Task, tuple[Skipped, ...]]] = {}
        self._chosen: dict[tuple[str, str], float | None] = {}
        self._ratios = self._learned(plan)

    def price(self, cell: Cell, shards: int = 1) -> Price:
        """Of one cell; of one of its shards, if `shards` processes compute it."""
        root, asked, m = self.settings.root, self.asked(cell), self.model(cell)
        if is_done(root, cell.run_id):
            return Price(cell, True, asked=asked, model=m)
        known = self._known(cell)
        if known and (refused := refusal(cell, known, self.settings.decoding.search)):
            return Price(cell, False, asked=asked, model=m, refused=refused)
        stored = counted(root / "runs" / cell.run_id)
        left = max(0.0, 1 - stored / asked.count) if asked and asked.count else 1.0
        made = self._cost(cell, m, asked) if m is not None and asked is not None and asked.count else None
        skipped = self._fitting(cell)[1]
        return Price(cell, False, stored, left / shards, asked, m, made, self.ratio(cell), skipped=skipped)

    @property
    def learned(self) -> int:
        """How many earlier runs correct the times."""
        return sum(len(values) for (_, method), values in self._ratios.items() if method)

    def model(self, cell: Cell) -> Model | None:
        """The numbers of the cell's model; None if its configuration does not tell them."""
        label = cell.model_label
        if label not in self._models:
            try:
                self._models[label] = model.of(cell.spec, str(cell.identity["model"]["dtype"]))
            except (UserError, KeyError):
                self._models[label] = None
        return self._models[label]

    def asked(self, cell: Cell) -> Workload | None:
        """What the cell's task asks of its model; None if nobody knows."""
        key = (cell.model_label, cell.task_label)
        if key not in self._asked:
            found = self._recorded(cell)
            self._asked[key] = found or self._stated(cell)
        return self._asked[key]

    def _stated(self, cell: Cell) -> Workload | None:
        """What the task says of the lengths that the model can read; of all of them if it can read none."""
        return requests.stated(self._fitting(cell)[0], self.model(cell), self.settings.limit)

    def _known(self, cell: Cell) -> Facts | None:
        """What decides refusals; None if the model's configuration cannot be read."""
        label = cell.model_label
        if label not in self._facts:
            try:
                self._facts[label] = facts(cell.spec)
            except UserError:
                self._facts[label] = None
        return self._facts[label]

    def _fitting(self, cell: Cell) -> tuple[Task, tuple[Skipped, ...]]:
        """What is left of the task on the model, and what is skipped; all of it where nothing fits, which is refused."""
        key, known = (cell.model_label, cell.task_label), self._known(cell)
        if key not in self._fits:
            try:
                self._fits[key] = fitting(
                    cell.task, cell.task_label, cell.model_label, known.positions if known else None
                )
            except UserError:
                self._fits[key] = (cell.task, ())
        return self._fits[key]

    def _recorded(self, cell: Cell) -> Workload | None:
        """From a finished cell on the same examples, else on those of another seed, read with the same tokenizer; dense
        before others.
        """
        wanted, alike = canonical(cell.identity["task"]), earlier.but_seed(cell.identity["task"])
        read = (earlier.reader(cell.identity["model"]), cell.identity["limit"])
        able = [e for e in self.earlier if e.done and e.count and (e.reader, e.limit) == read]
        same = [e for e in able if e.task == wanted] or [e for e in able if earlier.but_seed(e.task) == alike]
        if not same:
            return None
        best = min(same, key=lambda e: not e.method.endswith(".Dense"))
        told = 0 if cell.task.asks.one_pass else cell.task.max_new_tokens or 0
        return requests.recorded(best.rows, best.count, best.pictures, told)

    def _cost(self, cell: Cell, m: Model, asked: Workload) -> Cost:
        method, s = self._burden(cell.method, cell.task.asks.grows), self.settings
        key = (cell.model_label, cell.task_label, cell.method.batching, method)
        if key not in self._costs:
            self._costs[key] = cost(
                m, asked, method, cell.method.batching, s.batch_tokens, s.efficiency, self._speeds(m),
                cell.task.asks.one_pass,
            )  # fmt: skip
        return self._costs[key]

    def _burden(self, method: Any, grows: bool = False) -> Burden:
        key = (id(method), grows)
        if key not in self._burdens:
            decoding = self.settings.decoding
            beams = decoding.num_beams if decoding.search == "beam" else 1
            self._burdens[key] = burden.of(method, beams, self.settings.lowering, grows)
        return self._burdens[key]

    def speeds_of(self, m: Model) -> Speeds | None:
        """Of the device that the model will be on; None if it cannot be measured here."""
        return self.speeds if self._given or m.device == "cpu" else of_gpu(m.device, m.element)

    def _speeds(self, m: Model) -> Speeds:
        """The processor's stand in where the device's are not known: only operations are counted then, no time is said."""
        return self.speeds_of(m) or self.speeds

    # -- earlier runs -------------------------------------------------------------------------------------------------

    def ratio(self, cell: Cell) -> float | None:
        """By what a price of this model and method is corrected: as the method's own earlier runs say, else as the
        model's do, else 1; None on a device that cannot be measured here.
        """
        key = (cell.model_label, str(cell.identity["method"]["target"]))
        if key not in self._chosen:
            known, m = canonical(cell.identity["model"]), self.model(cell)
            values = self._ratios.get((known, key[1])) or self._ratios.get((known, ""))
            timed = m is not None and self.speeds_of(m) is not None
            self._chosen[key] = None if not timed else median(values) if values else 1.0
        return self._chosen[key]

    def _learned(self, plan: Sequence[Cell]) -> dict[tuple[str, str], list[float]]:
        """(model, class of the method or "" for all) -> taken / priced, one for each earlier run."""
        found: dict[tuple[str, str], list[float]] = {}
        methods = {str(c.identity["method"]["target"]): c for c in plan}
        models = {canonical(c.identity["model"]): c for c in {c.model_label: c for c in plan}.values()}
        for e in self.earlier:
            if e.method in methods and e.model in models:
                m = self.model(models[e.model])
                ratio = None if m is None or self.speeds_of(m) is None else self._taken(e, m, methods[e.method].method)
                if ratio is not None:
                    found.setdefault((e.model, e.method), []).append(ratio)
                    found.setdefault((e.model, ""), []).append(ratio)
        return found

    def _taken(self, e: Earlier, m: Model, method: Any) -> float | None:
        """Seconds that a run took by what it is priced: its samples if it is known what they shared, else one request."""
        made, speeds = self._burden(method), self._speeds(m)
        if e.seconds and e.rows:
            asked = requests.recorded(e.rows, e.count, e.pictures, 0)
            priced = cost(m, asked, made, method.batching, self.settings.batch_tokens, "off", speeds)
            saved = priced.seconds_encode * (1 - e.pictures / e.count) if e.pictures else 0.0
            saved += priced.seconds_common if e.prefixes else priced.seconds_prefill * (1 - 1 / e.members)
            return e.seconds / (priced.seconds_samples - saved)
        if e.ttft and e.step:
            first, step = request(m, e.timed_prompt, 1, made, speeds)
            return (e.ttft + e.step) / (first + step)
        return None
