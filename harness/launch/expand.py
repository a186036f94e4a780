"""From the overrides of a sweep to jobs: commas make jobs, `jobs=N` and `shards=N` cut them further.

Hydra's own sweeper composes the configuration of every job to check it. Here names of models, methods and tasks that
commas separate are composed once, as the matrix that their jobs make up together, and the jobs' cells are found in it by
their labels; only commas in other keys (`seed=0,1`) cost a composition each. So a plan of thousands of jobs is checked,
named and compared with what is finished in seconds.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from harness.config import compose, mistakes
from harness.config.compose import BASELINE, GROUPS
from harness.config.search_path import started
from harness.errors import UserError
from harness.plan.cells import Cell, cells, part

Variant = tuple[str, str, str, list[str]]  # group, new label, label it is a copy of, keys
CUTS = ("part", "shard")
AXES = ("model", "method", "task")  # of a matrix; probes stand on the axis of the methods


@dataclass(frozen=True)
class Job:
    """One element of a sweep. `overrides` is complete but for the variants; `label`: how it differs from the others; `whole`:
    the cells of its matrix, of which it computes the part `cut`, (i, n), if it has one.
    """

    overrides: tuple[str, ...]
    label: str
    whole: tuple[Cell, ...]
    cut: tuple[int, int] | None = None
    limit: int | None = None

    @property
    def cells(self) -> list[Cell]:
        """What it computes (or its share of each, if it is a shard)."""
        return part(self.whole, *self.cut, limit=self.limit) if self.cut else list(self.whole)

    @property
    def is_empty(self) -> bool:
        """A plan has no more parts than cells."""
        return len(self.whole) <= (self.cut[0] if self.cut else 0)

    def left(self, done: Collection[str]) -> bool:
        """Whether it has something to do where the cells with these run ids are finished."""
        n = sum(c.run_id in done for c in self.whole)
        if n in (0, len(self.whole)):
            return not n and not self.is_empty
        return any(c.run_id not in done for c in self.cells)


@dataclass(frozen=True)
class Sweep:
    """`matrices`: configuration and cells of each value of the keys that are no group. `variants`: overrides that every job
    gets whose groups hold what they copy.
    """

    jobs: list[Job]
    matrices: list[tuple[DictConfig, list[Cell]]]
    variants: list[str]

    @property
    def plan(self) -> list[Cell]:
        """Every cell once."""
        return list({c.run_id: c for _, plan in self.matrices for c in plan}.values())


@dataclass(frozen=True)
class Dimension:
    """One override and its values: several if commas (or `range`, `choice`, `glob`) stand in it."""

    key: str
    texts: tuple[str, ...]

    @property
    def swept(self) -> bool:
        return len(self.texts) > 1


def expand(overrides: Sequence[str], n_jobs: int = 1, n_shards: int = 1, alone: bool = True) -> Sweep:
    """All jobs of a sweep and all cells. `alone`: the jobs run one after another. Where they run side by side the baseline
    becomes a job of its own instead of a cell that many jobs would want to compute. Mistakes are `UserError`s.
    """
    mistakes.check_text(overrides)
    shared, variants = compose.split_variants(list(overrides))
    kept = [o for o in overrides if o not in shared]
    found = _dimensions(compose.expand_models([compose._tracking_short(o) for o in shared]))
    _refuse(found)
    if not alone:
        found = _own_baseline(found)
    matrices = [_matrix(texts, kept) for texts in _matrices(found)]
    cuts = [
        Dimension(k, tuple(f"{k}={i}/{n}" for i in range(n))) for k, n in zip(CUTS, (n_jobs, n_shards), strict=True)
    ]
    jobs: dict[tuple[str, ...], Job] = {}
    labels = _Labels(found, variants)
    indices = [_Index.of(plan) for _, plan in matrices]
    for texts in itertools.product(*(d.texts for d in [*found, *(c for c in cuts if c.swept)])):
        own = labels.fitting(texts)
        if own not in jobs:
            number = _number(found, texts)
            cfg = matrices[number][0]
            whole = indices[number].cells(labels.chosen(own, cfg.baseline))
            jobs[own] = Job(own, "", tuple(whole), _cut(own), cfg.limit)
    return Sweep(_named([job for job in jobs.values() if not job.is_empty]), matrices, kept)


def _dimensions(overrides: Sequence[str]) -> list[Dimension]:
    with started():
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        try:
            parsed = parser.parse_overrides(list(overrides))
        except compose.HydraException as error:
            raise UserError(mistakes.explain(error, overrides)) from error
        return [_dimension(text, o) for text, o in zip(overrides, parsed, strict=True)]


def _dimension(text: str, override: Any) -> Dimension:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return Dimension(key, (text,))
    if not override.is_discrete_sweep():
        raise UserError(f"{text}: jobs need values one by one, for example {key}=0.1,0.5 or {key}=range(0,10,2).")
    values = tuple(itertools.islice(override.sweep_string_iterator(), compose.MOST_PARTS + 1))
    if len(values) > compose.MOST_PARTS:
        raise UserError(f"{text}: that is more than {compose.MOST_PARTS} values, and each makes a job. Give fewer.")
    return Dimension(key, tuple(f"{key}={value}" for value in values))


def _refuse(found: Sequence[Dimension]) -> None:
    for dimension in found:
        if dimension.key == "results" and dimension.swept:
            raise UserError("results= names one folder for the whole sweep: give one value without commas.")
    if any(d.key in CUTS for d in found):
        raise UserError(
            "part= and shard= choose one job of many; with -m write jobs=N or shards=N to have all of them."
        )


def _own_baseline(found: list[Dimension]) -> list[Dimension]:
    """Several jobs that differ in their methods alone would each compute `dense`: take it out of them."""
    if not any(d.swept and d.key.split(".")[0] == "method" for d in found) or any(d.key == "baseline" for d in found):
        return found
    methods = next((d for d in found if d.key == "method"), None)
    if methods is None:
        return found
    at = found.index(methods)
    rest = tuple(t for text in methods.texts if (t := _without_baseline(text)))
    return [
        *found[:at],
        Dimension("method", (f"method=[{BASELINE}]", *rest)),
        *found[at + 1 :],
        Dimension("baseline", ("baseline=false",)),
    ]


def _without_baseline(text: str) -> str:
    names = [n for n in _names(text) if n != BASELINE]
    return f"method=[{','.join(names)}]" if names else ""


def _names(text: str) -> list[str]:
    """What a group's override chooses.

    >>> _names("method=[dense,other]"), _names("task=one")
    (['dense', 'other'], ['one'])
    """
    value = text.partition("=")[2].strip().strip("[]")
    return [n.strip().strip("'\"") for n in value.split(",") if n.strip()]


def _matrices(found: Sequence[Dimension]) -> Iterator[list[str]]:
    """The overrides of each matrix: groups whole, other keys value by value, in the order that `_number` counts."""
    whole: list[tuple[str, ...]] = []
    for d in found:
        if d.key in GROUPS and d.swept:
            names = dict.fromkeys(n for text in d.texts for n in _names(text))
            whole.append((f"{d.key}=[{','.join(names)}]",))
        else:
            whole.append(d.texts)
    for texts in itertools.product(*whole):
        yield list(texts)


def _number(found: Sequence[Dimension], texts: Sequence[str]) -> int:
    """Which of `_matrices` a job belongs to."""
    number = 0
    for d, text in zip(found, texts, strict=False):
        if d.key not in GROUPS or not d.swept:
            number = number * len(d.texts) + d.texts.index(text)
    return number


def _matrix(texts: list[str], variants: list[str]) -> tuple[DictConfig, list[Cell]]:
    cfg = compose.compose([*texts, *variants])
    return cfg, cells(cfg)


def _cut(own: Sequence[str]) -> tuple[int, int] | None:
    """(i, n) of `part=i/n`."""
    match = next((m for text in own if (m := re.fullmatch(r"part=(\d+)/(\d+)", text))), None)
    return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class _Index:
    """A matrix by its labels (model, method, task): jobs are many and so are cells."""

    places: dict[tuple[str, str, str], tuple[int, Cell]]
    labels: tuple[list[str], ...]

    @staticmethod
    def of(plan: Sequence[Cell]) -> _Index:
        places = {(c.model_label, c.method_label, c.task_label): (i, c) for i, c in enumerate(plan)}
        return _Index(places, tuple(list(dict.fromkeys(key[k] for key in places)) for k in range(len(AXES))))

    def cells(self, chosen: Mapping[str, Collection[str]]) -> list[Cell]:
        """Those with the chosen labels in the order of the plan; a group that is not in `chosen` is whole."""
        models, methods, tasks = (chosen.get(group, labels) for group, labels in zip(AXES, self.labels, strict=True))
        found = (self.places.get(key) for key in itertools.product(models, methods, tasks))
        return [cell for _, cell in sorted((f for f in found if f is not None), key=lambda f: f[0])]


class _Labels:
    """What jobs choose in each group whose names are separated by commas."""

    def __init__(self, found: Sequence[Dimension], variants: Sequence[Variant]) -> None:
        self.swept = {
            d.key: {n for text in d.texts for n in _names(text)} for d in found if d.key in GROUPS and d.swept
        }
        self.copies = [(group, new, old) for group, new, old, _ in variants]

    def fitting(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Without the options of what this job leaves to others: `method.power.x=1` says nothing to a job without `power`."""
        absent = {g: names - self._chosen(g, texts) for g, names in self.swept.items()}
        return tuple(dict.fromkeys(text for text in texts if not _about(text, absent)))

    def _chosen(self, group: str, texts: Sequence[str]) -> set[str]:
        return {n for text in texts if text.startswith(f"{group}=") for n in _names(text)}

    def chosen(self, texts: Sequence[str], baseline: bool) -> dict[str, set[str]]:
        """The labels that a job computes in those groups."""
        chosen = {g: self._chosen(g, texts) for g in self.swept}
        for group, new, old in self.copies:
            if group in chosen and old in chosen[group]:
                chosen[group].add(new)
        if "probe" in chosen:  # they stand in place of methods
            chosen["method"] = chosen.pop("probe")
        elif "method" in chosen and baseline:
            chosen["method"].add(BASELINE)
        return chosen


def _about(text: str, absent: dict[str, set[str]]) -> bool:
    """Whether an override is an option of something that is not there."""
    group, _, rest = text.lstrip("+").partition("=")[0].partition(".")
    return rest.split(".")[0] in absent.get(group, ()) if rest else False


def _named(jobs: list[Job]) -> list[Job]:
    """Each job with the overrides in which it differs from the others as its label."""
    common = set.intersection(*(set(j.overrides) for j in jobs)) if len(jobs) > 1 else set()
    return [
        replace(j, label=" ".join(o for o in j.overrides if o not in common) or " ".join(j.overrides) or "defaults")
        for j in jobs
    ]


def fitting_variants(texts: Sequence[str], cfg: DictConfig) -> list[str]:
    """The variants, with their keys, of which the composed configuration of a job holds the original."""
    _, found = compose.split_variants(list(texts))
    gone = {(group, new) for group, new, old, _ in found if old not in (cfg[group] or ())}
    return [t for t in texts if (name := _place(t)) is None or name not in gone]


def _place(text: str) -> tuple[str, str] | None:
    """(group, label) of `+group.label=...` and `group.label.key=...`."""
    group, _, rest = text.lstrip("+").partition("=")[0].partition(".")
    return (group, rest.split(".")[0]) if rest else None
