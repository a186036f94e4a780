"""What a reader must know before believing a row. An alarm is a reason to look, never a verdict.

* `beats dense`: significantly better than the baseline, which a method that only leaves things out should not be.
* `at chance`: the interval holds the level that guessing reaches. Known where the task states it (`Task.chance`).
* `unknown answers`: more than a few answers could not be read as an answer (`Task.unreadable`).
* `barely engaged`: it reads nearly everything (or does not say), and is there to leave keys out (`Method.leaves_out`), or
  each output equals dense's.
* `partly dense`: some samples are too short for the method to act on; their answers are dense's and count in its value.
* `inactive`: what was read or computed differed from dense in fewer than one of two hundred layer calls (`acted` in the
  metrics): the number is nearly dense's own.
* `not finite`: a stored number is NaN or infinite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KINDS = ("beats dense", "at chance", "unknown answers", "barely engaged", "partly dense", "inactive", "not finite")
UNREAD = 0.05  # share of answers that may be unreadable without an alarm
NEARLY_ALL = 0.95  # of the keys


@dataclass(frozen=True)
class Alarm:
    """`kind` is one of `KINDS`; `text` says what was seen, in one sentence."""

    kind: str
    text: str


def alarms(
    row: Mapping[str, Any],
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    same: tuple[int, int] = (0, 0),
    nonfinite: Sequence[str] = (),
) -> list[Alarm]:
    """The alarms of one finished cell. `row`: of `rows_for_table`; `same`: (outputs equal to dense's, outputs compared)."""
    found = [
        _not_finite(nonfinite),
        *(_of_results(row, metrics, config, same) if row["status"] == "done" else []),
    ]  # fmt: skip
    return [alarm for alarm in found if alarm]


def _of_results(
    row: Mapping[str, Any], metrics: Mapping[str, Any], config: Mapping[str, Any], same: tuple[int, int]
) -> list[Alarm | None]:
    return [
        _beats(row),
        _chance(metrics, config),
        _unread(metrics, config),
        _engaged(row, config, same),
        _idle(row),
        _inactive(metrics),
    ]


def _not_finite(keys: Sequence[str]) -> Alarm | None:
    if not keys:
        return None
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return Alarm("not finite", f"NaN or infinite, so shown as missing: {', '.join(map(str, keys[:5]))}{more}")


def _inactive(metrics: Mapping[str, Any]) -> Alarm | None:
    acted = metrics.get("acted") or {}
    if not acted.get("inactive"):
        return None
    return Alarm("inactive", f"only {100 * acted['changed']:.2g} % of the layer calls differed from dense")


def _beats(row: Mapping[str, Any]) -> Alarm | None:
    text = "significantly better than dense: a reason to check a method that leaves things out"
    return Alarm("beats dense", text) if row["alarm"] else None


def _chance(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> Alarm | None:
    levels = (config.get("task_facts") or {}).get("chance") or {}
    for name, level in levels.items():
        part = (metrics.get("values") or {}).get(name) or {}
        if part.get("low") is not None and part.get("high") is not None and part["low"] <= level <= part["high"]:
            interval = f"[{100 * part['low']:.1f}, {100 * part['high']:.1f}]"
            return Alarm(
                "at chance", f"the interval of {name} {interval} holds {100 * level:g} %, what guessing reaches"
            )
    return None


def _unread(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> Alarm | None:
    unreadable = (config.get("task_facts") or {}).get("unreadable") or ()
    n, flags, values = metrics.get("n") or 0, metrics.get("flags") or {}, metrics.get("values") or {}
    shares = {f"flag {name}": flags[name] / n for name in unreadable if n and flags.get(name)}
    shares |= {name: value for name in unreadable if (value := (values.get(name) or {}).get("value")) is not None}
    if not shares or max(shares.values()) <= UNREAD:
        return None
    name = max(shares, key=lambda key: shares[key])
    return Alarm("unknown answers", f"{100 * shares[name]:.0f} % of the answers could not be read ({name})")


def _idle(row: Mapping[str, Any]) -> Alarm | None:
    if not row["idle"]:
        return None
    some = f"{row['idle']} of {row['n']} samples"
    text = f"the method could not act on {some} (shorter than its budget): their answers are dense's, and they count"
    return Alarm("partly dense", text)


def _engaged(row: Mapping[str, Any], config: Mapping[str, Any], same: tuple[int, int]) -> Alarm | None:
    """Reading less is proof of work, whatever the outputs are."""
    if row["is_baseline"]:
        return None
    read = [row[key] for key in ("density_prefill", "density_decode") if row[key] is not None]
    if read and min(read) < NEARLY_ALL:
        return None
    equal, compared = same
    if compared and equal == compared:
        return Alarm("barely engaged", f"each of {compared} outputs compared equals dense's")
    facts = config.get("method_facts") or {}
    if read and facts.get("leaves_out"):
        return Alarm("barely engaged", f"{100 * min(read):.0f} % of the keys were read (budget: {facts.get('budget')})")
    return None
