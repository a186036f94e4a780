"""Is a candidate worse than the baseline? Judged cell by cell (model, method, task), from the records alone.

* Accuracy. For every metric that can be lost (`Metric.judged`): worse if the 95 % interval of the paired difference,
  candidate minus baseline on the same examples, lies entirely beyond the margin on the bad side. The margin is in points
  for percentages, else in percent of the baseline's value. What the interval cannot exclude does not fail a build; with too
  few clusters to tell anything, the metric is named as not judged.
* Efficiency. Worse if the ratio of medians is above the threshold and the ranges between the 20 and 80 % quantiles do not
  touch. Times and memory are judged on the same hardware and library only, and from 5 repetitions on
  (`efficiency=full`), and if other processes left the machine alone meanwhile (below 0.1 processors on both sides): load
  is drift that no repetition of one second shows. Even a quiet machine has slow minutes (clock rates, neighbours on a
  virtual machine). So the ratio must stay above the threshold when it is divided by that of a fixed piece of work which
  was timed between the repetitions (`pace_ms`), and more than half of the method's cells on that model must be slower;
  otherwise it is said and not held against the cell. Cache bytes are judged everywhere. Simulated speed is never judged.
* A cell that ended in the baseline and failed, was refused or is unfinished in the candidate is worse. A cell that is missing, or
  that asked other examples, cannot be judged. New cells are named and judged next time.

Baseline and candidate run different code by purpose, so run ids differ: cells are matched by their labels, and the identity is
compared key by key (see `compare.incomparable`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.analysis.board_rows import status_of
from harness.analysis.compare import Compared, Ratio, compared, differences, incomparable, pairs, ratios
from harness.analysis.probes import split
from harness.analysis.statistics import NO_SPREAD, untold
from harness.errors import UserError
from harness.records.cells import CellRecord, read_cells

PASS, WORSE, NOT_COMPARABLE = "pass", "worse", "not comparable"
EXIT = {PASS: 0, WORSE: 1, NOT_COMPARABLE: 2}
REPETITIONS = 5
QUIET = 0.1  # processors that others may use while times are measured
TIMED = ("ttft_ms", "decode_ms_per_token")


@dataclass(frozen=True)
class Rules:
    """`margin`: share that may be lost (0.01: one point); `slower`: tolerated ratio of times, memory and cache bytes."""

    margin: float
    slower: float


@dataclass(frozen=True)
class Verdict:
    """One cell: `outcome`, what struck (`reasons`), what was not judged (`notes`), and the numbers behind it."""

    name: str
    outcome: str
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    headline: Compared | None = None
    ratios: tuple[Ratio, ...] = ()
    times: Mapping[str, str] = field(default_factory=dict)  # each time judged -> what is said; empty: not slower


def judge(baseline: Path, candidate: Path, rules: Rules) -> list[Verdict]:
    """A verdict for every cell of the baseline, then for what only the candidate has."""
    old, new = _by_name(baseline), _by_name(candidate)
    out = _confirmed([_cell(name, old[name], new.get(name, []), rules) for name in sorted(old)])
    extra = [_extra(name, new[name][0]) for name in sorted(new.keys() - old)]
    return out + extra


def _confirmed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts with slower times in them, where the method's other cells on that model agree."""
    found: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        for time, said in verdict.times.items():
            found.setdefault((_subject(verdict), time), []).append(said)
    return [_with_times(v, {time: found[_subject(v), time] for time in v.times}) for v in verdicts]


def _subject(verdict: Verdict) -> str:
    """Model and method."""
    return verdict.name.rpartition(" / ")[0]


def _with_times(verdict: Verdict, found: Mapping[str, Sequence[str]]) -> Verdict:
    reasons, notes = list(verdict.reasons), list(verdict.notes)
    for time, said in verdict.times.items():
        slow, judged = sum(map(bool, found[time])), len(found[time])
        if said and 2 * slow > judged:
            reasons.append(said)
        elif said:
            notes.append(f"{said}; in {slow} of {judged} cells of this method only, so taken for the machine's")
    outcome = WORSE if reasons and verdict.outcome == PASS else verdict.outcome
    return replace(verdict, outcome=outcome, reasons=tuple(reasons), notes=tuple(notes))


def _extra(name: str, cell: CellRecord) -> Verdict:
    if cell.problem:  # whose cell it is may be unreadable, too
        return Verdict(name, NOT_COMPARABLE, (f"the candidate is damaged ({cell.problem})",))
    return Verdict(name, PASS, notes=("not in the baseline: judged once it is",))


def worst(verdicts: Sequence[Verdict]) -> str:
    """The outcome of the whole: a regression weighs more than what cannot be compared."""
    found = {v.outcome for v in verdicts}
    return next((outcome for outcome in (WORSE, NOT_COMPARABLE) if outcome in found), PASS)


def _by_name(root: Path) -> dict[str, list[CellRecord]]:
    cells, _ = split(read_cells(root))  # tables of probes are no numbers that could get worse
    if not cells:
        raise UserError(
            f"{root} holds no runs, so there is nothing to judge. Give a results folder (the one with runs/ in it); a "
            f"baseline is made by running the same suite with results={root}."
        )
    out: dict[str, list[CellRecord]] = {}
    for cell in cells:
        name = " / ".join(str(cell.labels.get(k) or "?") for k in ("model", "method", "task"))
        out.setdefault(name if cell.labels else cell.run_id, []).append(cell)
    return out


def _cell(name: str, old: list[CellRecord], new: list[CellRecord], rules: Rules) -> Verdict:
    if not new and old[0].problem:
        return Verdict(name, NOT_COMPARABLE, (f"the baseline is damaged ({old[0].problem})",))
    if not new:
        return Verdict(
            name, NOT_COMPARABLE, ("the candidate has no such cell: run it, or take it out of the baseline",)
        )
    able = [(a, b) for a in new for b in old if not incomparable(a, b)]
    if len(able) == 1:
        return _judged(name, *able[0], rules)
    if len(able) > 1:
        paths = ", ".join(sorted({str(c.path) for pair in able for c in pair}))
        return Verdict(name, NOT_COMPARABLE, (f"several runs have this name: {paths}. Keep one on each side",))
    return _unusable(name, old[0], new[0])


def _unusable(name: str, old: CellRecord, new: CellRecord) -> Verdict:
    (was, why), (now, reason) = status_of(old), status_of(new)
    if was == now == "refused":
        return Verdict(name, PASS, notes=("refused on both sides",))
    if was != "done":
        return Verdict(name, NOT_COMPARABLE, (f"the baseline is {was} ({why})",))
    if now == "damaged":
        return Verdict(name, NOT_COMPARABLE, (f"the candidate is damaged ({reason})",))
    if now != "done":
        return Verdict(name, WORSE, (f"done in the baseline, {now} in the candidate ({reason})",))
    keys = ", ".join(incomparable(new, old))
    return Verdict(name, NOT_COMPARABLE, (f"differs in {keys}: make the baseline anew if this is meant",))


def _judged(name: str, new: CellRecord, old: CellRecord, rules: Rules) -> Verdict:
    try:
        found = pairs(new, old)
    except UserError as error:
        return Verdict(name, NOT_COMPARABLE, (str(error),))
    counts = {len(found), int(new.metrics["n"]), int(old.metrics["n"])}
    if len(counts) > 1:
        text = f"{old.metrics['n']} examples in the baseline, {new.metrics['n']} in the candidate, {len(found)} in both"
        return Verdict(name, NOT_COMPARABLE, (text,))
    rows = [row for row in compared(new, old, found) if not row.by]
    speed = ratios(new, old)
    reasons = [text for row in rows if (text := _lost(row, rules.margin))]
    able = [r for r in speed if not _not_judged(r, new, old)]
    reasons += [_slower(r, rules) for r in able if r.name not in TIMED and _is_slower(r, rules)]
    pace = max(1.0, _pace(new) / _pace(old)) if _pace(old) else 1.0
    times = {r.name: _slower(r, rules, pace) if _is_slower(r, rules, pace) else "" for r in able if r.name in TIMED}
    notes = [f"{row.metric.name} not judged: {why}" for row in rows if row.metric.judged and (why := _cannot_tell(row))]
    notes += [f"{r.name} not judged: {why}" for r in speed if (why := _not_judged(r, new, old))]
    changed = [key for key, _, _ in differences(new, old)]
    notes += [f"differs in {', '.join(changed)}"] if changed else []
    return Verdict(
        name, WORSE if reasons else PASS, tuple(reasons), tuple(notes), rows[0] if rows else None, tuple(speed), times
    )


def _lost(row: Compared, margin: float) -> str:
    """What is said if the metric is worse beyond the margin; empty if it is not."""
    d, metric = row.difference, row.metric
    allowed = margin if metric.percent else margin * abs(row.b or 0.0)
    if not metric.judged or d.low is None or d.high is None:
        return ""
    beyond = d.high < -allowed if metric.higher_is_better else d.low > allowed
    if not beyond:
        return ""
    factor, unit = (100, " points") if metric.percent else (1, "")
    numbers = f"{factor * (d.value or 0):+.4g} [{factor * d.low:+.4g}, {factor * d.high:+.4g}]{unit}"
    return f"{metric.name} {numbers}, beyond the margin of {factor * allowed:.4g} (n = {d.n})"


def _cannot_tell(row: Compared) -> str:
    """Why nothing can be said about a loss; empty if something can, or if no output changed."""
    why = untold(asdict(row.difference))
    return "" if why == NO_SPREAD and not row.difference.value else why


def _is_slower(r: Ratio, rules: Rules, pace: float = 1.0) -> bool:
    """`pace`: how much longer the machine itself took, at least 1."""
    return r.value is not None and r.value / pace > rules.slower and r.disjoint


def _slower(r: Ratio, rules: Rules, pace: float = 1.0) -> str:
    machine = f" (the machine itself: {pace:.2f}x)" if pace > 1 else ""
    return f"{r.name} {r.value:.2f}x [{r.low:.2f}, {r.high:.2f}] of the baseline, above {rules.slower:g}x{machine}"


def _pace(cell: CellRecord) -> float:
    """Median milliseconds of the fixed piece of work; 0 if it was not timed."""
    value = cell.efficiency.get("pace_ms")
    return float(value.get("median") or 0) if isinstance(value, dict) else 0.0


def _not_judged(r: Ratio, new: CellRecord, old: CellRecord) -> str:
    fewest = min(_repetitions(c.efficiency.get(r.name)) for c in (new, old))
    if not r.not_judged and r.name in TIMED and fewest < REPETITIONS:
        return f"{fewest} repetition(s); run with efficiency=full"
    if not r.not_judged and r.name in TIMED:
        return _busy(new, old)
    return r.not_judged


def _busy(*cells: CellRecord) -> str:
    """Whether the machine was at work on other things while the cells were measured; empty if not."""
    loads = [float(load) for c in cells if (load := c.efficiency.get("other_load")) is not None and _pace(c)]
    if len(loads) < len(cells):
        return "how busy the machine was is not known"
    return "" if max(loads) <= QUIET else "the machine was busy with other things meanwhile"


def _repetitions(value: Any) -> int:
    return int(value.get("n") or 0) if isinstance(value, dict) else 0
