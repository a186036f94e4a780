"""`heed run --dry-run`: the cells, what is finished, and what the rest will cost. Loads no model, runs nothing, writes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from harness.plan.cells import Cell, decoding
from harness.plan.planned import lessons_of
from harness.pricing import earlier
from harness.pricing.price import Price, Pricing
from harness.pricing.total import Saving, Total, total
from harness.pricing.words import clock, short, short_size
from harness.records.learned import look, place
from harness.running.settings import RunSettings

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from harness.launch.expand import Job, Sweep

SHOWN = 40  # cells (or jobs) listed one by one; a larger plan is summed up
TEXT = ("model", "method", "task", "state", "job")
BUSY = 0.5  # of the processors, by others, from which the times are said to be those of an idle machine


def show(
    plan: Sequence[Cell], root: Path, limit: int | None, console: Console, settings: RunSettings | None = None
) -> None:
    """Print the plan of one process. `settings`: those of the run (None: the defaults)."""
    settings = settings or RunSettings(root, limit=limit)
    pricing = Pricing(plan, settings)
    priced = total(pricing, plan, settings.shard[1] if settings.shard else 1)
    _print_cells([priced], console)
    _print_lessons(plan, root, console)
    _print_sums([priced], settings.share, console)
    _print_basis([priced], pricing, console)


def show_sweep(found: Sweep, console: Console) -> None:
    """Print the jobs of a sweep. A cell that several jobs hold whole (the baseline) counts in the first of them: the
    others wait for it and find it finished.
    """
    runs = earlier.of_plan(found.plan, Path(found.matrices[0][0].results))
    pricings: list[Pricing] = []
    where: dict[str, int] = {}
    for number, (cfg, plan) in enumerate(found.matrices):
        pricings.append(Pricing(plan, settings_of(cfg), runs=runs))
        where |= {c.run_id: number for c in reversed(plan) if c.run_id not in where}
    taken: set[str] = set()
    totals = []
    for job in found.jobs:
        shards = _shards(job)
        own = [c for c in job.cells if shards > 1 or c.run_id not in taken]
        taken |= {c.run_id for c in own}
        totals.append(total(pricings[where[job.cells[0].run_id]], own, shards))
    _print_cells([total(p, plan) for p, (_, plan) in zip(pricings, found.matrices, strict=True)], console)
    _print_lessons(found.plan, Path(found.matrices[0][0].results), console)
    _print_jobs(found.jobs, totals, console)
    _print_sums(totals, pricings[0].settings.share, console)
    _print_basis(totals, pricings[0], console)


def settings_of(cfg: DictConfig) -> RunSettings:
    """What of a configuration decides its price."""
    from harness.config.compose import fraction

    return RunSettings(
        Path(cfg.results), cfg.preset.name, cfg.limit, cfg.efficiency, cfg.batch_tokens, cfg.lowering, decoding(cfg),
        cfg.share, fraction(cfg, "shard"),
    )  # fmt: skip


def _shards(job: Job) -> int:
    match = next((m for text in job.overrides if (m := re.fullmatch(r"shard=\d+/(\d+)", text))), None)
    return int(match[1]) if match else 1


# -- what is printed --------------------------------------------------------------------------------------------------


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        text = column in TEXT
        table.add_column(column, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    return table


def _print_cells(totals: Sequence[Total], console: Console) -> None:
    prices = list({p.cell.run_id: p for t in totals for p in t.prices}.values())
    together = {p.cell.run_id: len(group) for t in totals for group in t.groups for p in group}
    refused = sum(bool(p.refused) for p in prices)
    title = f"{len(prices)} cells, {sum(p.done for p in prices)} finished" + (f", {refused} refused" if refused else "")
    table = _table(title, (*TEXT[:4], "n", "prompt", "new", "FLOP", "memory", "time"))
    for p in prices[:SHOWN]:
        c, asked = p.cell, p.asked
        row = [c.model_label, c.method_label, c.task_label, _state(p)]
        row += [short(asked.count), short(asked.prompt), short(asked.new)] if asked else ["?", "?", "?"]
        if not p.todo:
            row += ["-", "-", "-"]
        else:
            memory = p.cost.memory(p.model, together.get(c.run_id, 1)).total if p.cost and p.model else None
            row += [short(p.flops), short_size(memory), clock(p.seconds)]
        table.add_row(*row)
    console.print(table)
    if len(prices) > SHOWN:
        console.print(f"... and {len(prices) - SHOWN} more cells")
    _print_refused(prices, console)


def _print_refused(prices: Sequence[Price], console: Console) -> None:
    """Each reason once and whole, with the cells that it strikes, in the words of the run; then what cells leave out."""
    for status, reason_of in (("refused", lambda p: p.refused), ("left out of", _skipped)):
        struck: dict[str, list[str]] = {}
        for p in prices:
            if reason := reason_of(p):
                struck.setdefault(reason, []).append(p.cell.label)
        for reason, labels in struck.items():
            more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
            console.print(f"{status} {', '.join(labels[:SHOWN])}{more}: {reason}", soft_wrap=True)


def _print_lessons(plan: Sequence[Cell], root: Path, console: Console) -> None:
    """What the cells need to have learned, and whether it is. What learning costs is not known before, and is not in the times."""
    found = lessons_of(plan)
    for key, lesson in list(found.items())[:SHOWN]:
        state, reason = look(place(root, key))
        n = sum(key in c.needs.lesson_ids for c in plan)
        why = f": {reason}" if reason else "" if state == "learned" else "; not in the times below"
        console.print(f"lesson {lesson.label} (for {n} cell{'s' * (n > 1)}): {state}{why}", soft_wrap=True)
    if len(found) > SHOWN:
        console.print(f"... and {len(found) - SHOWN} more lessons")


def _skipped(p: Price) -> str:
    return "; ".join(dict.fromkeys(item.reason for item in p.skipped))


def _print_jobs(jobs: Sequence[Job], totals: Sequence[Total], console: Console) -> None:
    left = sum(bool(t.todo) for t in totals)
    table = _table(f"{len(jobs)} jobs, {left} to run", ("job", "cells", "to do", "FLOP", "memory", "time"))
    for job, t in list(zip(jobs, totals, strict=True))[:SHOWN]:
        flops = sum(p.flops or 0.0 for p in t.todo) - t.saving.flops
        memory = short_size(t.heaviest[0].total if t.heaviest else None) if t.todo else "-"
        row = [job.label, str(len(job.cells)), str(len(t.todo)), short(flops), memory]
        table.add_row(*row, _time([t]).removeprefix("about ") if t.todo else "-")
    console.print(table)
    if len(jobs) > SHOWN:
        console.print(f"... and {len(jobs) - SHOWN} more jobs")
    if left:
        i = max(range(len(jobs)), key=lambda i: totals[i].seconds)
        console.print(f"The longest job: {_time([totals[i]])} ({jobs[i].label}).", soft_wrap=True)


def _state(p: Price) -> str:
    return "done" if p.done else "refused" if p.refused else f"{p.stored} samples" if p.stored else "to do"


def _time(totals: Sequence[Total]) -> str:
    """`about 4 min`, `at least 4 min` where some cells have no price, `?` where none has one."""
    todo, untimed = sum(len(t.todo) for t in totals), sum(t.untimed for t in totals)
    if todo and untimed == todo:
        return "?"
    return ("at least " if untimed else "about ") + clock(sum(t.seconds for t in totals))


def _print_sums(totals: Sequence[Total], share: bool, console: Console) -> None:
    todo = [p for t in totals for p in t.todo]
    if not todo:
        refused = any(p.refused for t in totals for p in t.prices)
        console.print(f"To run: nothing; every cell is finished{' or refused' if refused else ''}.")
        return
    lines = [_asked(todo), _work(todo), _memory(totals), _times(totals), _sharing(totals, share)]
    for line in filter(None, lines):
        console.print(line, soft_wrap=True)


def _asked(todo: Sequence[Price]) -> str:
    asked = [(p.left, p.asked) for p in todo if p.asked]
    n, prompt, new = (sum(by * getattr(a, name) for by, a in asked) for name in ("count", "prompt", "new"))
    most = "" if all(a.recorded for _, a in asked) else "at most "
    cells = len({p.cell.run_id for p in todo})
    return f"To run: {cells} cells, {short(n)} examples with {short(prompt)} prompt and {most}{short(new)} new tokens."


def _work(todo: Sequence[Price]) -> str:
    costs = [(p.left, p.cost) for p in todo if p.cost]
    if not costs:
        return ""

    def told(name: str) -> str:
        works = [getattr(c, name) * by for by, c in costs]
        weights, attention = sum(w.weights for w in works), sum(w.attention for w in works)
        return f"{short(weights + attention, 'FLOP')} ({short(weights)} weights, {short(attention)} attention)"

    seen = sum(by * c.encode.flops for by, c in costs)
    pictures = f", pictures {short(seen, 'FLOP')}" if seen else ""
    return f"Work if nothing is shared: prefill {told('prefill')}, decode {told('decode')}{pictures}."


def _memory(totals: Sequence[Total]) -> str:
    found = [h for t in totals if (h := t.heaviest)]
    if not found:
        return ""
    m, p = max(found, key=lambda pair: pair[0].total)
    libraries = f", libraries {short_size(m.process)}" if m.process else ""
    return (
        f"Peak memory: about {short_size(m.total)} in {p.cell.label} (weights {short_size(m.weights)}, keys and values "
        f"{short_size(m.cache)}, activations {short_size(m.activations)}{libraries})."
    )


def _times(totals: Sequence[Total]) -> str:
    start, samples, beside = (
        clock(sum(getattr(t, f"seconds_{name}") for t in totals)) for name in ("start", "samples", "beside")
    )
    several = f" in {len(totals)} jobs together" if len(totals) > 1 else ""
    return (
        f"Time{several}: {_time(totals)} ({start} to start and load, {samples} for the samples, {beside} for proofs, "
        "speed and records)."
    )


def _sharing(totals: Sequence[Total], share: bool) -> str:
    if not share:
        return "Sharing: off (share=false)."
    groups = [group for t in totals for group in t.groups]
    saving = sum((t.saving for t in totals), Saving())
    timed = any(p.seconds is not None for t in totals for p in t.todo)
    apart = f" A process for each cell: {clock(sum(t.seconds_apart for t in totals))}." if timed else ""
    if not saving.flops and any(p.asked and p.asked.shows and p.asked.pictures is None for t in totals for p in t.todo):
        return f"Sharing: pictures are encoded once; what that saves is known after a first run.{apart}"
    if not saving.flops:
        return f"Sharing: no cell has work in common with another, but for the model and the data.{apart}"
    n = sum(map(len, groups))
    what = f"{n} cells read their prompts in {len(groups)} groups" if n else "pictures are read once"
    seconds = f" and {clock(saving.seconds)}; without it {clock(sum(t.seconds_unshared for t in totals))}"
    return f"Sharing: {what}, which saves {short(saving.flops, 'FLOP')}{seconds if saving.seconds else ''}.{apart}"


def _print_basis(totals: Sequence[Total], pricing: Pricing, console: Console) -> None:
    """What the figures rest on, and what they leave open, in a line each."""
    todo = [p for t in totals for p in t.todo]
    if not todo:
        return
    runs = pricing.learned
    found = {p.model.device: s for p in todo if p.model and (s := pricing.speeds_of(p.model))}
    basis = "; ".join(
        f"on {device} a matrix product at {short(s.flops, 'FLOP/s')} and memory at {short(s.bandwidth, 'B/s')}"
        for device, s in found.items()
    )
    basis += ", measured now" if basis else "operations only"
    basis += f", corrected by {runs} earlier run{'s' * (runs > 1)} on this machine" if runs else ""
    lines = [f"Basis: {basis}; expect a factor of two."]
    unsized, untimed = sum(t.unsized for t in totals), sum(t.untimed - t.unsized for t in totals)
    unknown = [f"{unsized} cells of unknown size are not counted"] if unsized else []
    if untimed:
        unknown.append(f"{untimed} cells have no time (their device cannot be measured here)")
    assumed = sorted({text for p in todo for text in p.assumed})
    unknown += [f"assumed: {', '.join(assumed)}"] if assumed else []
    lines += [f"Not known: {'; '.join(unknown)}."] if unknown else []
    busy, processors = os.getloadavg()[0], os.cpu_count() or 1
    if busy > BUSY * processors:
        lines.append(
            f"This machine is busy ({busy:.0f} running processes on {processors} processors); the times are those of an "
            "idle one."
        )
    for line in lines:
        console.print(line, soft_wrap=True)
