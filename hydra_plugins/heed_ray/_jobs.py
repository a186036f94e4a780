"""Jobs of a sweep, and which of them an actor takes next."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.utils import filter_overrides

Models = tuple[str, ...]
_MODEL = re.compile(r"\+{0,2}(model|suite)[.=]")


@dataclass(frozen=True)
class Job:
    """One element of a sweep. `label`: its values of the keys that are not the same for all."""

    number: int
    overrides: tuple[str, ...]
    label: str
    log: Path

    @property
    def name(self) -> str:
        """The job on the terminal."""
        return f"job {self.number}, {self.label}"

    @property
    def models(self) -> Models:
        """The overrides that say which models are loaded, and how.

        >>> Job(0, ("model=a", "model.a.dtype=bf16", "task=[ruler]"), "", Path()).models
        ('model=a', 'model.a.dtype=bf16')
        """
        return tuple(o for o in self.overrides if _MODEL.match(o))


def jobs_of(overrides: Sequence[Sequence[str]], first: int, logs: Path) -> list[Job]:
    """Hydra's lists of overrides as jobs, numbered from `first`."""
    shown = [[(o.partition("=")[0], o) for o in filter_overrides(own)] for own in overrides]
    values: dict[str, set[str]] = {}
    for key, text in (pair for own in shown for pair in own):
        values.setdefault(key, set()).add(text)
    labels = [" ".join(text for key, text in own if len(values[key]) > 1) for own in shown]
    return [
        Job(first + i, tuple(own), label or "alone", logs / f"{first + i}.log")
        for i, (own, label) in enumerate(zip(overrides, labels, strict=True))
    ]


def choose(waiting: Sequence[Job], held: Models | None, others: Collection[Models | None]) -> Job | None:
    """The job for an actor that holds the models `held`: one that needs no loading, else one whose models no other actor
    holds (that actor would need no loading), else the first.
    """
    ours = (job for job in waiting if job.models == held)
    free = (job for job in waiting if job.models not in others)
    return next(ours, None) or next(free, None) or next(iter(waiting), None)
