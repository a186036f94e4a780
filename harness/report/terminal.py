"""The terminal table: one block per model and task, one row per method, and a breakdown where the task has groups.

Only ASCII and no meaning in colour alone, so that it reads the same in a log file. Where the console has the room, an
interval stands beside its value; where not, in a second line of the same row (`harness/terminal/columns.py` measures).
`*` marks a significant difference to dense (paired test on the same examples, p < 0.05), `?` one that cannot be told from
so few clusters; ALARM marks one that is better than dense, which calls for a check, not for joy. A task with several
metrics has a second table with all of them and, under each method, their paired differences.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.board_rows import rows_for_table
from harness.analysis.summarise import FLOOR
from harness.contracts.metric import Metric, as_metric
from harness.records.cells import CellRecord
from harness.report import numbers
from harness.terminal.columns import Column, Pieces, tables
from harness.terminal.visible import plain

REASON = 300  # characters of a failure that the terminal shows
Row = dict[str, Any]
LEGEND = {
    "columns": "density: share of the keys that are read, in the prefill and in the decode; KV: cache bytes against dense, "
    "logical and allocated (one number where both are equal)",
    "q": "q: the phase in which the method reads the question: with the prompt that is prefilled, or token by token after it",
    "*": "* differs significantly from dense (paired on the same examples, p < 0.05; each metric is tested by itself)",
    "?": "? too few clusters to tell: fewer than six, or one outweighs the others (docs/statistics.md)",
    "ALARM": "ALARM: significantly better than dense. Of a method that leaves things out: a reason to check it. Of one that "
    "is meant to change the answers: read it with the other metrics (how much is still told, how long answers are, the share of yes)",
    "= dense": "= dense: samples that the method could not act on, as they are shorter than its budget; their answers are dense's, "
    "and they count in the value",
    "inactive": f"inactive: the method changed fewer than {100 * FLOOR:g} % of the layer calls, so the number is nearly dense's own",
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
        for i, table in enumerate(tables(_names(members), _block(members), console.width)):
            _print(table, console, apart=i > 0)
        for table in [*_metrics_table(members, stored, console.width), *_breakdowns(members, console.width)]:
            _print(table, console, apart=True)
            texts = [str(text) for column in table.columns[1:] for text in column.cells]
            used |= {mark for mark in "*?" if any(mark in text for text in texts)}
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
    lengths, places = (
        sorted({row["prompt_tokens"] for row in measured}),
        sorted({_place(row) for row in measured} - {""}),
    )
    parts += [f"speed at {lengths[0]} prompt tokens"] if len(lengths) == 1 else []
    parts += [f"on {' and '.join(places)}"] if places else []
    phases = _phases(rows)
    parts += [f"question in the {phases[0]}"] if len(phases) == 1 else []
    return f"({', '.join(parts)})" if parts else ""


def _place(row: Row) -> str:
    """The device, with the name of the hardware where that does not say it."""
    device, name = plain(row["device"]), plain(row["hardware"])
    return name if device in name else f"{device}: {name}".strip(": ")


def _phases(rows: list[Row]) -> list[str]:
    """The phases in which these methods read the question, where they have the choice."""
    return sorted({row["question"] for row in rows} - {""})


def _metric(rows: list[Row]) -> Metric | None:
    return next((row["metric"] for row in rows if row["metric"]), None)


def _marks(rows: list[Row]) -> set[str]:
    parts = [row["difference"] for row in rows]
    parts += [(g.get("vs_dense") or {}).get(row["metric"].name) for row in rows if row["metric"] for g in row["groups"]]
    found = {
        "q": len(_phases(rows)) > 1,
        "columns": any(row["density_decode"] not in (None, 1.0) for row in rows),
        "*": any(part and part["significant"] for part in parts),
        "?": any(numbers.mark_of(part) == " ?" for part in parts if part),
        "ALARM": any(row["alarm"] for row in rows),
        "= dense": any(row["idle"] for row in rows),
        "inactive": any(row["inactive"] for row in rows),
        "simulated": any(row["simulated"] for row in rows),
    }
    return {mark for mark, stands in found.items() if stands}


def _print(table: Table, console: Console, apart: bool) -> None:
    if apart:
        console.print()
    console.print(table)


# -- one block -------------------------------------------------------------------------------------------------------

INTERVAL = "95 % interval"


def _names(rows: list[Row]) -> Column:
    """Under each method, where they differ, in which phase it reads the question: no number stands without its protocol."""
    differ = len(_phases(rows)) > 1
    asked = [Text(f"q: {row['question']}" if differ and row["question"] else "", style="dim") for row in rows]
    return Column(("method",), [(Text(plain(row["method"])), text) for row, text in zip(rows, asked, strict=True)])


def _block(rows: list[Row]) -> list[Column]:
    metric = _metric(rows)
    kinds = " ".join(sorted({row["memory_kind"] for row in rows} - {""}))
    skips = any(row["skipped"] for row in rows)
    title = _title(metric) if metric else "result"
    done = [row["status"] == "done" for row in rows]
    return [
        Column((title, INTERVAL), [_result(row, metric) for row in rows]),
        Column(("n", "skip") if skips else ("n",), [_counts(row, skips) for row in rows]),
        Column(
            ("vs dense", INTERVAL),
            [_difference(row, metric) if ok else (Text("-"),) for row, ok in zip(rows, done, strict=True)],
        ),
        Column(("density",), [_share(row["density_prefill"], row["density_decode"]) for row in rows], join=" / "),
        Column(("KV",), [_share(row["kv_logical"], row["kv_physical"]) for row in rows], join=" / "),
        Column(("TTFT ms", "tok/s"), [_speeds(row) for row in rows]),
        Column((f"memory\n{kinds}",), [(Text(numbers.size(row["peak_memory_bytes"])),) for row in rows]),
    ]


def _title(metric: Metric) -> str:
    return f"{plain(metric.name)} %" if metric.percent else plain(metric.name)


def _result(row: Row, metric: Metric | None) -> Pieces:
    if row["status"] != "done":
        return (Text(row["status"], style="red"),)
    return _value(row["estimate"], metric, f" ({row['idle']} of {row['n']} = dense)" if row["idle"] else "")


def _counts(row: Row, skips: bool) -> Pieces:
    n = Text("-" if row["n"] is None else str(row["n"]))
    return (n, Text(str(row["skipped"]))) if skips else (n,)


def _share(a: float | None, b: float | None) -> Pieces:
    return tuple(map(Text, numbers.shares(a, b)))


def _speeds(row: Row) -> Pieces:
    if row["simulated"]:
        return (Text("simulated"),)
    return Text(numbers.rate(row["ttft_ms"])), Text(numbers.rate(row["decode_tokens_per_s"]))


def _value(estimate: Mapping[str, Any] | None, metric: Metric | None, remark: str = "") -> Pieces:
    if not (beside := numbers.interval(estimate, metric)):
        return (Text("-"),)
    return Text(numbers.value(estimate, metric) + remark), Text(beside)


def _difference(row: Row, metric: Metric | None) -> Pieces:
    found = row["difference"]
    inactive = " inactive" if row["inactive"] else ""
    if not found or found.get("value") is None or metric is None:
        return (Text("-" + inactive),)
    alarm = " ALARM" if row["alarm"] else ""
    text = numbers.difference(found, metric) + alarm + inactive
    style = "bold yellow" if alarm or inactive else ("red" if found["significant"] else "")
    return Text(text, style=style), Text(numbers.interval(found, metric, sign=True), style=style)


def _reasons(rows: list[Row], console: Console) -> None:
    for row in rows:
        if row["status"] == "done":
            continue
        reason = plain(row["reason"])
        reason = reason if len(reason) <= REASON else reason[: REASON - 3] + "..."
        style = "red" if row["status"] in ("failed", "damaged") else "yellow"
        console.print(Text(f"{plain(row['method'])} {row['status']}: {reason}", style=style))


# -- all metrics -----------------------------------------------------------------------------------------------------


def _metrics_table(rows: list[Row], stored: Mapping[str, CellRecord], width: int) -> list[Table]:
    """For a task with several metrics: all that are `shown` side by side, as one may say nothing without the others
    (fewer untrue names, in shorter captions). A difference to dense that is significant has its mark, and all differences
    but the headline's, which stand above, have a line of their own, without intervals where they would tear the metrics apart.
    """
    done = [row for row in rows if row["status"] == "done"]
    facts = [(stored[row["run_id"]].config.get("task_facts") or {}).get("metrics") or [] for row in done]
    metrics = {
        str(m["name"]): as_metric(m) for found in facts for i, m in enumerate(found) if not i or m.get("shown", True)
    }
    if len(metrics) < 2:
        return []
    measured = [(plain(row["method"]), stored[row["run_id"]].metrics) for row in done]
    names, columns = _all_metrics(measured, metrics)
    return tables(names, columns, width, brief=True)


def _all_metrics(
    measured: Sequence[tuple[str, Mapping[str, Any]]], metrics: Mapping[str, Metric]
) -> tuple[Column, list[Column]]:
    """Metrics of one part of the examples (one set of questions among several) stand in a line of their own under the method."""
    parts = {name: part for name, metric in metrics.items() if (part := _part_of(metric, metrics))}
    columns = {name: metric for name, metric in metrics.items() if name not in parts}
    compared = _compared(measured, list(columns.values())[1:])
    lines: list[tuple[str, list[Pieces]]] = []
    for method, found in measured:
        lines.append((method, [_metric_cell(found, metric) for metric in columns.values()]))
        lines.append(
            ("  vs dense", [_metric_difference(found, m) if name in compared else () for name, m in columns.items()])
        )
        for suffix in dict.fromkeys(suffix for _, suffix in parts.values()):
            own = {base: metrics[name] for name, (base, of) in parts.items() if of == suffix}
            cells = [_metric_cell(found, own[name], absent="") if name in own else () for name in columns]
            lines.append((f"  {plain(suffix)}", cells))
    lines = [(name, cells) for name, cells in lines if any(cells)]
    return Column(("all metrics",), [(Text(name),) for name, _ in lines]), [
        Column((_title(metric),), [cells[i] for _, cells in lines], join=" ")
        for i, metric in enumerate(columns.values())
    ]


def _compared(measured: Sequence[tuple[str, Mapping[str, Any]]], metrics: Sequence[Metric]) -> set[str]:
    """Metrics in which some method differs from dense at all: a column of zeros would only take the room."""
    differences = [(metric.name, found.get("vs_dense") or {}) for _, found in measured for metric in metrics]
    return {name for name, found in differences if (found.get(name) or {}).get("value")}


def _metric_difference(found: Mapping[str, Any], metric: Metric) -> Pieces:
    difference = (found.get("vs_dense") or {}).get(metric.name) or {}
    if difference.get("value") is None:
        return ()
    texts = numbers.shown(difference["value"], metric, sign=True), numbers.interval(difference, metric, sign=True)
    return tuple(Text(text, style="dim") for text in texts)


def _part_of(metric: Metric, metrics: Mapping[str, Metric]) -> tuple[str, str] | None:
    """(`share`, `easy`) for a metric `share_easy` over the one suffix `easy`: a line under `share`, not a column."""
    if len(metric.macro) != 1:
        return None
    base, suffix = metric.name.removesuffix(f"_{metric.macro[0]}"), metric.macro[0]
    return (base, suffix) if base != metric.name and base in metrics else None


def _metric_cell(found: Mapping[str, Any], metric: Metric, absent: str = "-") -> Pieces:
    estimate = (found.get("values") or {}).get(metric.name) or {}
    difference = (found.get("vs_dense") or {}).get(metric.name) or {}
    if estimate.get("value") is None:
        return (Text(absent),) if absent else ()
    return (Text(numbers.shown(estimate["value"], metric) + numbers.mark_of(difference)),)


# -- breakdown -------------------------------------------------------------------------------------------------------


def _breakdowns(rows: list[Row], width: int) -> list[Table]:
    """For each key of the task with more than one group: groups down, methods across (in several tables if need be)."""
    metric = _metric(rows)
    counted = [row for row in rows if row["groups"]]
    if metric is None or not counted:
        return []
    keys = list(dict.fromkeys(key for row in counted for g in row["groups"] if len(g["by"]) == 1 for key in g["by"]))
    found = []
    for key in keys:
        values = list(dict.fromkeys(g["by"][key] for row in counted for g in row["groups"] if list(g["by"]) == [key]))
        if len(values) > 1:
            found += _breakdown(key, values, counted, metric, width)
    return found


def _breakdown(key: str, values: list[Any], rows: list[Row], metric: Metric, width: int) -> list[Table]:
    found = {row["run_id"]: {g["by"][key]: g for g in row["groups"] if list(g["by"]) == [key]} for row in rows}
    counts = ["/".join(dict.fromkeys(str(of[v]["n"]) for of in found.values() if v in of)) for v in values]
    names = Column((f"{_title(metric)}\nby {plain(key)}",), [(Text(plain(value)),) for value in values])
    columns = [
        Column((plain(row["method"]),), [_group(found[row["run_id"]].get(v), metric) for v in values], join=" ")
        for row in rows
    ]
    return tables(names, columns, width, repeated=[Column(("n",), [(Text(n),) for n in counts])])


def _group(group: Mapping[str, Any] | None, metric: Metric) -> Pieces:
    if group is None:
        return (Text("-"),)
    some = group.get("n_idle") or 0
    remark = "" if not some else " = dense" if some == group["n"] else f" ({some} = dense)"
    value, *beside = _value(group["values"].get(metric.name), metric, remark)
    difference = (group.get("vs_dense") or {}).get(metric.name)
    return value.append(numbers.mark_of(difference or {})), *beside
