"""The 13 tasks of RULER as data: generator, parameters, room for the answer, metric.

Source: arXiv 2404.06654; NVIDIA/RULER `scripts/synthetic.yaml`, `scripts/data/synthetic/constants.py`,
`scripts/eval/synthetic/constants.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from harness.errors import UserError, nearest

Metric = Literal["all", "part"]
MIN_LENGTH = 256  # tokens; below it hardly a template fits
SHORT = 4096  # tokens; below this length the reference takes smaller steps and easier word lists
DEPTHS = 40  # the essay haystack knows this many depths, hence at most this many needles


@dataclass(frozen=True)
class Niah:
    """Needles in a haystack: `keys` keys with `values` values each are hidden, `queries` keys are asked for."""

    haystack: Literal["noise", "essay", "needle"] = "essay"
    key_type: Literal["words", "numbers", "uuids"] = "words"
    value_type: Literal["words", "numbers", "uuids"] = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1

    @property
    def hidden_keys(self) -> int:
        """Keys that are really hidden: never fewer than are asked for."""
        return max(self.keys, self.queries)


@dataclass(frozen=True)
class Vt:
    """Variable tracking: `chains` chains of `hops` + 1 variables; `shots` solved examples (0 or 1) stand before the
    prompt."""

    chains: int = 1
    hops: int = 4
    shots: int = 1


@dataclass(frozen=True)
class Cwe:
    """Common words: `common` words repeated `common_repeats` times among others. `None`: the rule of the reference,
    30 and 3 from 4096 tokens on, 6 and 1 below."""

    common: int = 10
    common_repeats: int | None = None
    uncommon_repeats: int | None = None
    shots: int = 1

    def repeats(self, length: int) -> tuple[int, int]:
        """(repeats of a common word, repeats of an uncommon word) in the main list at a length."""
        often, seldom = (30, 3) if length >= SHORT else (6, 1)
        return self.common_repeats or often, self.uncommon_repeats or seldom


@dataclass(frozen=True)
class Fwe:
    """Frequent coded words: ranks follow a zeta distribution with exponent `alpha`; `vocabulary` None: budget // 50
    words."""

    alpha: float = 2.0
    word_length: int = 6
    vocabulary: int | None = None


@dataclass(frozen=True)
class Qa:
    """Questions over documents. `dataset` names the layout of the file, not a download."""

    dataset: Literal["squad", "hotpotqa"] = "squad"


Params = Niah | Vt | Cwe | Fwe | Qa


@dataclass(frozen=True)
class Spec:
    """One of the 13 tasks."""

    params: Params
    max_new_tokens: int
    metric: Metric = "all"


CATALOG: Mapping[str, Spec] = {
    "niah_single_1": Spec(Niah(haystack="noise"), 128),
    "niah_single_2": Spec(Niah(), 128),
    "niah_single_3": Spec(Niah(value_type="uuids"), 128),
    "niah_multikey_1": Spec(Niah(keys=4), 128),
    "niah_multikey_2": Spec(Niah(haystack="needle"), 128),
    "niah_multikey_3": Spec(Niah(haystack="needle", key_type="uuids", value_type="uuids"), 128),
    "niah_multivalue": Spec(Niah(values=4), 128),
    "niah_multiquery": Spec(Niah(queries=4), 128),
    "vt": Spec(Vt(), 30),
    "cwe": Spec(Cwe(), 120),
    "fwe": Spec(Fwe(), 50),
    "qa_1": Spec(Qa("squad"), 32, "part"),
    "qa_2": Spec(Qa("hotpotqa"), 32, "part"),
}
TASKS = tuple(CATALOG)

_CHOICES = {
    "haystack": ("noise", "essay", "needle"),
    "key_type": ("words", "numbers", "uuids"),
    "value_type": ("words", "numbers", "uuids"),
}
_LOWEST = {"shots": 0, "word_length": 3, "vocabulary": 4}
_HIGHEST = {"shots": 1, "hops": 10, "word_length": 26, "common": 100}


def spec(task: str) -> Spec:
    """The spec of a task, or a `UserError` that names the nearest task."""
    if task not in CATALOG:
        raise UserError(f"ruler: there is no task '{task}'; {nearest(task, TASKS)}")
    return CATALOG[task]


def resolve(task: str, overrides: Mapping[str, Any]) -> Params:
    """The parameters of a task with overrides such as `{"hops": 2}` applied. Raises `UserError` for a name or value
    that makes no sense."""
    base = spec(task).params
    known = [] if isinstance(base, Qa) else [f.name for f in fields(base)]
    for name, value in overrides.items():
        if name not in known:
            raise UserError(
                f"ruler: task '{task}' has no parameter '{name}' (params.{task}.{name}); {nearest(name, known)}"
            )
        _check_value(task, name, value)
    params: Params = replace(base, **dict(overrides))
    if isinstance(params, Niah) and params.haystack == "essay" and params.hidden_keys * params.values > DEPTHS:
        raise UserError(
            f"ruler: params.{task} hides {params.hidden_keys * params.values} needles, but the essay haystack has "
            f"{DEPTHS} depths; lower keys or values, or use haystack: noise."
        )
    return params


def _check_value(task: str, name: str, value: Any) -> None:
    where = f"params.{task}.{name}={value!r}"
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise UserError(f"ruler: {where} is not a choice; {nearest(str(value), _CHOICES[name])}")
        return
    if name == "alpha":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 < value <= 6:
            raise UserError(f"ruler: {where} must be above 1 (the zeta distribution exists only there) and at most 6.")
        return
    if value is None and name in ("common_repeats", "uncommon_repeats", "vocabulary"):
        return
    low, high = _LOWEST.get(name, 1), _HIGHEST.get(name, 10_000)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(f"ruler: {where} must be a whole number from {low} to {high}.")
