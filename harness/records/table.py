"""The terminal table: one block per model and task, one row per method, and a breakdown where the task has groups.

Only ASCII and no meaning in colour alone, so that it reads the same in a log file. From 126 columns on, an interval
stands beside its value; in less, in a second line of the same row. `*` marks a significant difference to dense (paired
test on the same examples, p < 0.05); ALARM marks one that is better than dense, which calls for a check, not for joy.
A task with several metrics has a second table with all of them and, under each method, their paired differences.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.contracts.task import Metric
from harness.records.cells import CellRecord
from harness.records.rows import rows_for_table
from harness.records.summarise import as_metric

__all__ = ["render", "rows_for_table"]

WIDE = 126
REASON = 300  # characters of a failure that the terminal shows
Row = dict[str, Any]
LEGEND = {
    "columns": "density: share of the keys that are read, prefill / decode; KV: cache bytes against dense, logical / allocated",
    "*": "* differs significantly from dense (paired on the same examples, p < 0.05; each metric is tested by itself)",
    "ALARM": "ALARM: significantly better than dense. Of a method that leaves things out: a reason to check it. Of one that "
    "is meant to change the answers: read it with the other metrics (recall, length, share of yes)",
    "simulated": "simulated: sparsity is a mask inside a dense kernel, so no speed is claimed",
}


def render(cells: Sequence[CellRecord], console: Console, told: Collection[str] = ()) -> None:
    """Print all `cells`. `told`: run ids whose failures the caller explains itself."""
    rows = rows_for_table(cells)
    stored = {cell.run_id: cell for cell in cells}
    used: set[str] = set()
    for (model, task), block in itertools.groupby(rows, key=lambda r: (r["model"], r["task"])):
        members = list(block)
        console.print(Text(f"\n{plain(model)} / {plain(task)}", style="bold"), Text(_remark(members), style="dim"))
        console.print(_block(members, console.width >= WIDE))
        for table in _metrics_table(members, stored, console):
            console.print()
            console.print(table)
            used |= {"*"} if any("*" in str(text) for column in table.columns[1:] for text in column.cells) else set()
        for table in _breakdowns(members, console.width):
            console.print()
            console.print(table)
        _reasons([row for row in members if row["run_id"] not in told], console)
        used |= _marks(members)
    if used:
        console.print()
    for mark, text in LEGEND.items():
        if mark in used:
            console.print(Text(text, style="dim"), soft_wrap=True)


def _remark(rows: list[Row]) -> str:
    metric = _metric(rows)
    parts = ["lower is better"] if metric and not metric.higher_is_better else []
    measured = [row for row in rows if row["prompt_tokens"]]
    for key, text in (("prompt_tokens", "speed at {} prompt tokens"), ("hardware", "on {}")):
        found = sorted({row[key] for row in measured})
        parts += [text.format(plain(found[0]))] if len(found) == 1 and found[0] else []
    return f"({', '.join(parts)})" if parts else ""


def _metric(rows: list[Row]) -> Metric | None:
    return next((row["metric"] for row in rows if row["metric"]), None)


def _marks(rows: list[Row]) -> set[str]:
    parts = [row["difference"] for row in rows]
    parts += [(g.get("vs_dense") or {}).get(row["metric"].name) for row in rows if row["metric"] for g in row["groups"]]
    found = {
        "columns": any(row["density_decode"] not in (None, 1.0) for row in rows),
        "*": any(part and part["significant"] for part in parts),
        "ALARM": any(row["alarm"] for row in rows),
        "simulated": any(row["simulated"] for row in rows),
    }
    return {mark for mark, stands in found.items() if stands}


# -- one block -------------------------------------------------------------------------------------------------------


def _block(rows: list[Row], wide: bool) -> Table:
    metric = _metric(rows)
    skips = any(row["skipped"] for row in rows)
    cpu = "\ncpu" if any(row["device"] == "cpu" for row in rows) else ""
    kinds = " ".join(sorted({row["memory_kind"] for row in rows} - {""}))
    table = _table(wide)
    table.add_column("method", overflow="fold", min_width=8)
    heads = [
        _title(metric) if metric else "result",
        _two("n", "skip", wide) if skips else "n",
        "vs dense",
        _two("pre-", "dec.", wide) + "\ndensity",
        _two("log.", "phys.", wide) + "\nKV",
        _two("TTFT ms", "tok/s", wide) + cpu,
        f"memory\n{kinds}",
    ]
    for head in heads:
        table.add_column(head.strip(), justify="right", overflow="fold")
    for row in rows:
        table.add_row(Text(plain(row["method"])), *_cells(row, metric, skips, wide))
    return table


# A rule under the head and nothing else, in ASCII; rows of two lines are kept apart by their second, bracketed line.
RULE = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def _table(wide: bool) -> Table:
    return Table(box=RULE, show_edge=False, pad_edge=False, padding=(0, int(wide), 0, 0), header_style="bold")


def _title(metric: Metric) -> str:
    return f"{plain(metric.name)} %" if metric.percent else plain(metric.name)


def _cells(row: Row, metric: Metric | None, skips: bool, wide: bool) -> list[Text]:
    if row["status"] == "done":
        value, difference = _value(row["estimate"], metric, wide), _difference(row, metric, wide)
    else:
        value, difference = Text(row["status"], style="red"), Text("-")
    n = "-" if row["n"] is None else str(row["n"])
    speeds = ["simulated"] if row["simulated"] else [_speed(row["ttft_ms"]), _speed(row["decode_tokens_per_s"])]
    return [
        value,
        Text(_two(n, str(row["skipped"]), wide) if skips else n),
        difference,
        Text(_share(row["density_prefill"], row["density_decode"], wide)),
        Text(_share(row["kv_logical"], row["kv_physical"], wide)),
        Text(_two(speeds[0], speeds[-1], wide) if len(set(speeds)) > 1 else speeds[0]),
        Text(size(row["peak_memory_bytes"])),
    ]


def _two(first: str, second: str, wide: bool) -> str:
    return f"{first} / {second}" if wide else f"{first}\n{second}"


def _share(a: float | None, b: float | None, wide: bool) -> str:
    first, second = ("-" if x is None else f"{x:.2f}" for x in (a, b))
    return first if first == second else _two(first, second, wide)


def _speed(value: float | None) -> str:
    return "-" if value is None else (f"{value:.0f}" if value >= 100 else f"{value:.3g}")


def _value(estimate: Mapping[str, Any] | None, metric: Metric | None, wide: bool) -> Text:
    if not estimate or estimate.get("value") is None or metric is None:
        return Text("-")
    missing = f" ({estimate['n_missing']} missing)" if estimate.get("n_missing") else ""
    return Text(shown(estimate["value"], metric) + missing + (" " if wide else "\n") + _interval(estimate, metric))


def _difference(row: Row, metric: Metric | None, wide: bool) -> Text:
    found = row["difference"]
    if not found or found.get("value") is None or metric is None:
        return Text("-")
    mark = " *" if found["significant"] else ""
    alarm = " ALARM" if row["alarm"] else ""
    text = shown(found["value"], metric, sign=True) + mark + alarm
    style = "bold yellow" if alarm else ("red" if mark else "")
    return Text(text + (" " if wide else "\n") + _interval(found, metric, sign=True), style=style)


def _interval(part: Mapping[str, Any], metric: Metric, sign: bool = False) -> str:
    if part.get("low") is None or part.get("high") is None:
        return "[no interval]"
    return f"[{shown(part['low'], metric, sign, 1)}, {shown(part['high'], metric, sign, 1)}]"


def shown(value: float, metric: Metric, sign: bool = False, digits: int = 2) -> str:
    """A value as people read it: percentages x100 with two decimals (one in an interval), others with four digits."""
    text = f"{100 * value:{'+' if sign else ''}.{digits}f}" if metric.percent else f"{value:{'+' if sign else ''}.4g}"
    return text if float(text) else text.lstrip("-")


def size(value: float | None) -> str:
    """Bytes in binary units.

    >>> size(1536), size(3 * 2**30)
    ('1.5 KiB', '3.0 GiB')
    """
    if value is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _reasons(rows: list[Row], console: Console) -> None:
    for row in rows:
        if row["status"] == "done":
            continue
        reason = plain(row["reason"])
        reason = reason if len(reason) <= REASON else reason[: REASON - 3] + "..."
        style = "red" if row["status"] in ("failed", "damaged") else "yellow"
        console.print(Text(f"{plain(row['method'])} {row['status']}: {reason}", style=style))


# -- all metrics -----------------------------------------------------------------------------------------------------


def _metrics_table(rows: list[Row], stored: Mapping[str, CellRecord], console: Console) -> list[Table]:
    """For a task with several metrics: all that are `shown` side by side, as one may say nothing without the others
    (CHAIR falls when captions get shorter). A difference to dense that is significant has its mark, and all differences
    but the headline's, which stand above, have a line of their own, with as much of their intervals as the width allows.
    """
    done = [row for row in rows if row["status"] == "done"]
    facts = [(stored[row["run_id"]].config.get("task_facts") or {}).get("metrics") or [] for row in done]
    metrics = {
        str(m["name"]): as_metric(m) for found in facts for i, m in enumerate(found) if not i or m.get("shown", True)
    }
    if len(metrics) < 2:
        return []
    measured = [(plain(row["method"]), stored[row["run_id"]].metrics) for row in done]
    boundless = console.options.update(width=10_000)
    for detail in (" ", "\n", ""):
        table = _all_metrics(measured, metrics, detail, console.width >= WIDE)
        if console.measure(table, options=boundless).maximum <= console.width:
            break
    return [table]


def _all_metrics(
    measured: Sequence[tuple[str, Mapping[str, Any]]], metrics: Mapping[str, Metric], detail: str, wide: bool
) -> Table:
    """`detail`: what separates a difference from its interval; empty: no interval. Metrics of one part of the examples (a
    question set of POPE) stand in a line of their own under the method.
    """
    parts = {name: part for name, metric in metrics.items() if (part := _part_of(metric, metrics))}
    columns = {name: metric for name, metric in metrics.items() if name not in parts}
    compared = _compared(measured, list(columns.values())[1:])
    table = _table(wide)
    table.add_column("all metrics", overflow="fold", min_width=8)
    for metric in columns.values():
        table.add_column(Text(_title(metric)), justify="right", overflow="fold")
    for method, found in measured:
        table.add_row(Text(method), *(_metric_cell(found, metric) for metric in columns.values()))
        under = [
            _metric_difference(found, metric, detail) if name in compared else "" for name, metric in columns.items()
        ]
        if any(under):
            table.add_row(Text("  vs dense"), *(Text(text, style="dim") for text in under))
        for suffix in dict.fromkeys(suffix for _, suffix in parts.values()):
            own = {base: metrics[name] for name, (base, of) in parts.items() if of == suffix}
            line = [_metric_cell(found, own[name]) if name in own else Text("") for name in columns]
            if any(str(text) not in ("", "-") for text in line):
                table.add_row(Text(f"  {plain(suffix)}"), *line)
    return table


def _compared(measured: Sequence[tuple[str, Mapping[str, Any]]], metrics: Sequence[Metric]) -> set[str]:
    """Metrics in which some method differs from dense at all: a column of zeros would only take the room."""
    differences = [(metric.name, found.get("vs_dense") or {}) for _, found in measured for metric in metrics]
    return {name for name, found in differences if (found.get(name) or {}).get("value")}


def _metric_difference(found: Mapping[str, Any], metric: Metric, detail: str) -> str:
    difference = (found.get("vs_dense") or {}).get(metric.name) or {}
    if difference.get("value") is None:
        return ""
    text = shown(difference["value"], metric, sign=True)
    return f"{text}{detail}{_interval(difference, metric, sign=True)}" if detail else text


def _part_of(metric: Metric, metrics: Mapping[str, Metric]) -> tuple[str, str] | None:
    """(`f1`, `random`) for a metric `f1_random` over the one suffix `random`: a line under `f1`, not a column."""
    if len(metric.macro) != 1:
        return None
    base, suffix = metric.name.removesuffix(f"_{metric.macro[0]}"), metric.macro[0]
    return (base, suffix) if base != metric.name and base in metrics else None


def _metric_cell(found: Mapping[str, Any], metric: Metric) -> Text:
    estimate = (found.get("values") or {}).get(metric.name) or {}
    difference = (found.get("vs_dense") or {}).get(metric.name) or {}
    if estimate.get("value") is None:
        return Text("-")
    return Text(shown(estimate["value"], metric) + (" *" if difference.get("significant") else ""))


# -- breakdown -------------------------------------------------------------------------------------------------------


def _breakdowns(rows: list[Row], width: int) -> list[Table]:
    """For each key of the task with more than one group: groups down, methods across (in several tables if need be)."""
    metric = _metric(rows)
    counted = [row for row in rows if row["groups"]]
    if metric is None or not counted:
        return []
    keys = list(dict.fromkeys(key for row in counted for g in row["groups"] if len(g["by"]) == 1 for key in g["by"]))
    across = max(1, (width - 18) // (25 if width >= WIDE else 15))
    tables = []
    for key in keys:
        values = list(dict.fromkeys(g["by"][key] for row in counted for g in row["groups"] if list(g["by"]) == [key]))
        if len(values) > 1:
            chunks = [counted[i : i + across] for i in range(0, len(counted), across)]
            tables += [_breakdown(key, values, chunk, metric, width >= WIDE) for chunk in chunks]
    return tables


def _breakdown(key: str, values: list[Any], rows: list[Row], metric: Metric, wide: bool) -> Table:
    table = _table(wide)
    table.add_column(Text(f"{_title(metric)}\nby {plain(key)}"), overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    for row in rows:
        table.add_column(Text(plain(row["method"])), justify="right", overflow="fold")
    for value in values:
        found = [next((g for g in row["groups"] if g["by"] == {key: value}), None) for row in rows]
        counts = "/".join(dict.fromkeys(str(g["n"]) for g in found if g))
        table.add_row(Text(plain(value)), counts, *(_group(g, metric, wide) for g in found))
    return table


def _group(group: Mapping[str, Any] | None, metric: Metric, wide: bool) -> Text:
    if group is None:
        return Text("-")
    text = _value(group["values"].get(metric.name), metric, wide)
    difference = (group.get("vs_dense") or {}).get(metric.name)
    return text.append("*") if difference and difference["significant"] else text


def plain(text: Any) -> str:
    """One line without control characters: names and messages can come from outside."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", str(text)).strip()
