"""RULER's own summary over tasks and lengths. Source: arXiv 2404.06654 and the table in NVIDIA/RULER `README.md`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.ruler.catalog import TASKS

THRESHOLD = 85.6  # percent: Llama-2-7B-chat at 4096 tokens


@dataclass(frozen=True)
class Summary:
    """All figures in percent. `complete`: every length has all 13 tasks, so that it may stand beside published
    numbers."""

    by_length: Mapping[int, float]
    average: float
    weighted_increasing: float
    weighted_decreasing: float
    effective_length: int | None
    complete: bool


def summarise(by_length: Mapping[int, float], complete: bool = True, threshold: float = THRESHOLD) -> Summary:
    """From the mean over tasks per length (percent). Weights are 1, 2, ... over the sorted lengths, and the reverse.

    The effective length is the longest one whose mean is at least `threshold`; None if there is none.
    """
    if not by_length:
        raise ValueError("no lengths to summarise")
    lengths = sorted(by_length)
    scores = [by_length[length] for length in lengths]
    rising = list(range(1, len(lengths) + 1))
    return Summary(
        by_length={length: by_length[length] for length in lengths},
        average=sum(scores) / len(scores),
        weighted_increasing=_weighted(scores, rising),
        weighted_decreasing=_weighted(scores, rising[::-1]),
        effective_length=max((length for length in lengths if by_length[length] >= threshold), default=None),
        complete=complete,
    )


def _weighted(scores: Sequence[float], weights: Sequence[int]) -> float:
    return sum(s * w for s, w in zip(scores, weights, strict=True)) / sum(weights)


def mean_by_length(scores: Mapping[tuple[str, int], float]) -> tuple[dict[int, float], bool]:
    """(unweighted mean over tasks per length, whether all 13 tasks are there at every length) from scores by (task,
    length)."""
    lengths = sorted({length for _, length in scores})
    per_length = {length: [s for (_, at), s in scores.items() if at == length] for length in lengths}
    complete = all({task for task, at in scores if at == length} >= set(TASKS) for length in lengths)
    return {length: sum(values) / len(values) for length, values in per_length.items()}, complete


def scores_from_rows(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], float]:
    """Mean `score` in percent by (task, length) from sample rows with `meta` and `metrics`."""
    groups: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        key = (str(row["meta"]["task"]), int(row["meta"]["length"]))
        groups.setdefault(key, []).append(100 * float(row["metrics"]["score"]))
    return {key: sum(values) / len(values) for key, values in groups.items()}


def table(scores: Mapping[tuple[str, int], float]) -> str:
    """The summary as comma-separated text: one line per task, the mean over tasks, then the aggregates."""
    by_length, complete = mean_by_length(scores)
    summary = summarise(by_length, complete)
    lengths = list(summary.by_length)
    tasks = [task for task in TASKS if any(name == task for name, _ in scores)]
    lines = [["task", *map(str, lengths)]]
    lines += [[task, *(_cell(scores.get((task, length))) for length in lengths)] for task in tasks]
    lines += [["mean", *(_cell(by_length[length]) for length in lengths)], [""]]
    lines += [
        ["average", _cell(summary.average)],
        ["weighted average (increasing)", _cell(summary.weighted_increasing)],
        ["weighted average (decreasing)", _cell(summary.weighted_decreasing)],
        ["effective length", str(summary.effective_length or "none")],
        ["all 13 tasks", "yes" if complete else "no"],
    ]
    return "\n".join(",".join(line) for line in lines) + "\n"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
