"""What the files of a cell must look like for everything that is made of them: tables, pages, comparisons, verdicts.

Shapes are data. A shape is a function of a value and its dotted place that raises `Malformed`; keys that a shape does not
name are left alone, since later versions add some. Numbers are finite by then (`files.finite`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.contracts.metric import as_metric
from harness.contracts.table import columns_of

Shape = Callable[[Any, str], None]
LARGEST_NUMBER = 1e300  # larger ones are damage: their sums would overflow a float


class Malformed(ValueError):
    """A value of another kind than heed writes there."""


def config(stored: Mapping[str, Any]) -> None:
    """config.json."""
    _CONFIG(stored, "")
    columns_of(stored.get("columns") or ())
    for metric in (stored.get("task_facts") or {}).get("metrics") or ():
        as_metric(metric)


def labels(stored: Any) -> None:
    """`labels` in config.json."""
    _LABELS(stored, "labels")


def metrics(stored: Mapping[str, Any], done: bool) -> None:
    """metrics.json, that of a failure or of a finished cell."""
    (_FINISHED if done else _METRICS)(stored, "")


def efficiency(stored: Mapping[str, Any]) -> None:
    """efficiency.json."""
    _EFFICIENCY(stored, "")


def provenance(stored: Mapping[str, Any]) -> None:
    """provenance.json."""
    _PROVENANCE(stored, "")


def sample(stored: Mapping[str, Any]) -> None:
    """What statistics need of a line of samples.jsonl."""
    _SAMPLE(stored, "")


# -- shapes ----------------------------------------------------------------------------------------------------------


def _wrong(value: Any, where: str, wanted: str) -> Malformed:
    shown = repr(value) if isinstance(value, bool | int | float | str | None) else type(value).__name__
    return Malformed(f"{where or 'the whole'} is {shown[:60]}, not {wanted}")


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise _wrong(value, where, "a text")


def _flag(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        raise _wrong(value, where, "true or false")


def _number(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST_NUMBER < value < LARGEST_NUMBER:
        raise _wrong(value, where, "a number")


def _count(value: Any, where: str) -> None:
    if type(value) is not int or not 0 <= value < LARGEST_NUMBER:
        raise _wrong(value, where, "a count")


def _scalar(value: Any, where: str) -> None:
    if not isinstance(value, str | bool | None):
        _number(value, where)


def _any(value: Any, where: str) -> None:
    """Whatever it is, nothing depends on its kind."""


def _object(value: Any, where: str) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(value, where, "an object")


def _maybe(shape: Shape) -> Shape:
    return lambda value, where: None if value is None else shape(value, where)


def _either(first: Shape, second: Shape) -> Shape:
    """`second` for objects, `first` for the rest."""
    return lambda value, where: (second if isinstance(value, Mapping) else first)(value, where)


def _each(shape: Shape) -> Shape:
    """An object whose values have one shape."""

    def check(value: Any, where: str) -> None:
        _object(value, where)
        for key, inner in value.items():
            shape(inner, f"{where}.{key}")

    return check


def _listed(shape: Shape) -> Shape:
    """A list whose entries have one shape."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise _wrong(value, where, "a list")
        for i, inner in enumerate(value):
            shape(inner, f"{where}.{i}")

    return check


def _keys(needed: tuple[str, ...] = (), /, **shapes: Shape) -> Shape:
    """An object whose named keys have their shapes where they are there; `needed` ones must be."""

    def check(value: Any, where: str) -> None:
        _object(value, where)
        for key in needed:
            if key not in value:
                raise Malformed(f"{where + '.' if where else ''}{key} is missing")
        for key, shape in shapes.items():
            if key in value:
                shape(value[key], f"{where}.{key}" if where else key)

    return check


_PART = _keys(params=_object, target=_text)
_IDENTITY = _keys(
    model=_object, method=_PART, task=_PART, decoding=_object, libraries=_object, calibration=_object, lessons=_listed(_text), seed=_number,
    limit=_maybe(_number),
)  # fmt: skip
_METRIC = _keys(
    ("name",), name=_text, kind=_text, num=_text, den=_text, transform=_text, higher_is_better=_flag, percent=_flag,
    macro=_listed(_text), undefined=_maybe(_number), shown=_flag, judged=_flag, companion=_flag,
)  # fmt: skip
_LABELS = _keys(("model", "method", "task"), model=_text, method=_text, task=_text)
_CONFIG = _keys(
    ("labels", "identity"),
    labels=_LABELS,
    identity=_IDENTITY,
    needs=_maybe(
        _keys(("baseline",), baseline=_maybe(_text), lessons=_listed(_keys(("id", "label"), id=_text, label=_text)))
    ),
    preset=_maybe(_text),
    task_facts=_keys(metrics=_listed(_METRIC), by=_listed(_text), chance=_each(_number), unreadable=_listed(_text)),
    method_facts=_keys(paper=_maybe(_text), needs=_listed(_text), budget=_maybe(_text), leaves_out=_maybe(_flag)),
)
_SOME = _maybe(_number)
_NUMBERS = dict.fromkeys(("value", "low", "high", "p", "error", "n", "n_clusters", "n_missing"), _SOME)
_ESTIMATE = _keys(reason=_maybe(_text), **_NUMBERS)
_CHANGE = _keys(reason=_maybe(_text), test=_maybe(_text), significant=_flag, **_NUMBERS)
_PARTS: dict[str, Shape] = {"values": _each(_ESTIMATE), "vs_dense": _maybe(_each(_CHANGE))}
_GROUP = _keys(("by", "values"), by=_each(_scalar), n=_count, **_PARTS)
_ACTED = _keys(
    ("changed", "inactive"), phases=_listed(_text), layers_dense=_listed(_count), changed=_number, inactive=_flag
)
_OF_METRICS: dict[str, Shape] = {
    "n": _count, "n_skipped": _maybe(_count), "n_paired": _maybe(_count), "n_errors": _maybe(_count),
    "n_seen": _maybe(_count), "n_rows": _maybe(_count),
    "n_idle": _maybe(_count), "acted": _maybe(_ACTED), "skipped": _maybe(_each(_count)),
    "groups": _maybe(_listed(_GROUP)), "usage": _maybe(_each(_SOME)),
    "flags": _maybe(_each(_number)), "failure": _maybe(_keys(kind=_text, message=_text)), **_PARTS,
}  # fmt: skip
_METRICS, _FINISHED = _keys(**_OF_METRICS), _keys(("n",), **_OF_METRICS)
_SAMPLE = _keys(
    ("metrics",), metrics=_each(_number), cluster=_maybe(_text), meta=_maybe(_object), references=_maybe(_listed(_any)),
    flags=_maybe(_listed(_text)), usage=_maybe(_object),
)  # fmt: skip
_SUMMARY = _either(_SOME, _keys(("median",), median=_SOME, q20=_SOME, q80=_SOME, n=_maybe(_count)))
_TIMED = (
    "ttft_ms", "decode_ms_per_token", "decode_tokens_per_s", "peak_memory_bytes", "kv_bytes_logical",
    "kv_bytes_physical", "pace_ms",
)  # fmt: skip
_EFFICIENCY = _keys(
    hardware=_maybe(_each(_scalar)), simulated=_flag, level=_text, device=_maybe(_text), memory_kind=_maybe(_text),
    prompt_tokens=_maybe(_count), context_tokens=_maybe(_count), batch=_maybe(_count), other_load=_SOME,
    **dict.fromkeys(_TIMED, _SUMMARY),
)  # fmt: skip
_SESSION = _keys(started=_maybe(_text), finished=_maybe(_text), versions=_maybe(_each(_text)))
_PROVENANCE = _keys(sessions=_listed(_SESSION))
