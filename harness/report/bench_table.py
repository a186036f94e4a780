"""What the terminal shows of a bench record: speed, then memory and work, then efficiency lengths. Plain ASCII."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.config.compose import BASELINE
from harness.efficiency import bound
from harness.efficiency.crossing import Crossing, crossing
from harness.efficiency.machine import Peaks, si
from harness.report.numbers import size
from harness.terminal.columns import RULE
from harness.terminal.visible import plain

Row = Mapping[str, Any]
WIDE = 126
NOISY = 1.3  # 80 % over 20 % quantile of dense's own times from which it is said
RATIOS = ("ratio_ttft", "ratio_decode")


def render(content: Mapping[str, Any], console: Console) -> None:
    """Print the newest run of a record."""
    shown, run = content["shown"], content["runs"][-1] | {"points": bound.points(content["runs"][-1])}
    alone = content["about"]["kind"] == "attention"
    what = "one layer's attention function alone" if alone else "whole requests"
    rounds = [r["ttft_ms"]["n"] for p in run["points"] for r in p["rows"] if "ttft_ms" in r]
    n = f"{min(rounds)}-{max(rounds)}" if rounds and min(rounds) < max(rounds) else str(max(rounds, default=0))
    console.print(
        Text(f"\n{plain(shown['model'])}: {what}, {shown['dtype']}, {plain(run['hardware']['name'])}", "bold")
    )
    console.print(
        Text(
            f"median [20 %, 80 %] of {n} alternating round{'s' * (n != '1')}; ratio to dense within a round: below 1 is faster"
        )
    )
    console.print(Text(f"peaks measured along with it: {Peaks(**run['peaks'])}"))
    for batch, points in _by_batch(run):
        console.print(Text(f"\nbatch {batch}", style="bold"))
        console.print(_speed(points, alone, console.width >= WIDE))
        console.print()
        console.print(_work(points, alone, console.width >= WIDE))
        _lengths(points, "prefill" if alone else "TTFT", console)
    _reasons(run, console)
    _noise(run, console)
    for label in dict.fromkeys(row["method"] for p in run["points"] for row in p["rows"]):
        if text := shown["methods"].get(label):
            console.print(Text(f"{plain(label)}: {plain(text)}", style="dim"))
    _legend(run, console, alone)


def efficiency_lengths(points: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Crossing]]:
    """label -> ratio's key -> crossing, from the points of one batch size; simulated and refused methods have none.

    Noise is not taken for a gain: a prefill that is dense's own, and a context that is too short for the method to act.
    """
    found: dict[str, dict[str, Crossing]] = {}
    labels = dict.fromkeys(row["method"] for p in points for row in p["rows"] if row["method"] != BASELINE)
    for label in labels:
        rows = {p["length"]: next(r for r in p["rows"] if r["method"] == label) for p in points}
        if not any(r["status"] == "done" for r in rows.values()):
            continue
        idle = {n for n, r in rows.items() if r["note"]}
        same = {n for n, r in rows.items() if r["prefill_is_dense"]}
        never = {"ratio_ttft": idle | same, "ratio_decode": idle}
        found[label] = {key: crossing({n: r.get(key) for n, r in rows.items()}, never[key]) for key in RATIOS}
    return found


def _by_batch(run: Mapping[str, Any]) -> Iterator[tuple[int, list[Any]]]:
    for batch in sorted({p["batch"] for p in run["points"]}):
        yield batch, sorted((p for p in run["points"] if p["batch"] == batch), key=lambda p: p["length"])


def _table(*columns: str) -> Table:
    """The first two columns name the row; no number is ever broken."""
    table = Table(box=RULE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for i, head in enumerate(columns):
        if i == 1:
            table.add_column(head, overflow="fold", min_width=8)
        else:
            table.add_column(head, justify="right", no_wrap=True)
    return table


def _lines(points: Sequence[Any]) -> Iterator[tuple[str, str, Row]]:
    """(length, method, row), the length only where it changes."""
    for point in points:
        for i, row in enumerate(point["rows"]):
            yield ("" if i else str(point["length"])), plain(row["method"]), row


def _speed(points: Sequence[Any], alone: bool, wide: bool) -> Table:
    names = ("prefill\nms", "decode\nms/step") if alone else ("TTFT\nms", "decode\nms/token")
    bound = "of bound\n" + _two("prefill", "decode", wide) if wide else "of\nbound"
    table = _table("length", "method", names[0], "vs dense", names[1], "vs dense", bound)
    for length, method, row in _lines(points):
        if row["status"] != "done":
            table.add_row(length, method, Text(row["status"], style="yellow"), *[Text("-")] * 4)
            continue
        table.add_row(
            length, method, _spread(row["ttft_ms"], wide), _spread(row.get("ratio_ttft"), wide, ratio),
            _spread(row["decode_ms_per_token"], wide), _spread(row.get("ratio_decode"), wide, ratio),
            _two(_share(row["of_bound_ttft_ms"]), _share(row["of_bound_decode_ms_per_token"]), wide),
        )  # fmt: skip
    return table


def _work(points: Sequence[Any], alone: bool, wide: bool) -> Table:
    cuda = any((row.get("memory_kind") or "").startswith("cuda") for p in points for row in p["rows"])
    both = "\n" + _two("prefill", "decode", wide)
    table = _table(
        "length", "method", "peak\nmemory" if cuda else "memory\ngrowth", "KV bytes\n" + _two("logical", "physical", wide),
        "FLOP" + both, "density" + both, "bytes\nper token", *(["lists\nms"] if alone else []),
    )  # fmt: skip
    for length, method, row in _lines(points):
        if "flops_prefill" not in row:
            table.add_row(length, method, Text(row["status"], style="yellow"), *[Text("-")] * (4 + alone))
            continue
        table.add_row(
            length, method, size(row["peak_memory_bytes" if cuda else "memory_grown_bytes"]),
            _two(size(row["kv_bytes_logical"]), size(row["kv_bytes_physical"]), wide),
            _two(si(row["flops_prefill"]).strip(), si(row["flops_step"]).strip(), wide),
            _two(_density(row["density_prefill"]), _density(row["density_decode"]), wide), size(row["bytes_step"]),
            *([number(row["lists_ms"]["median"]) if "lists_ms" in row else "-"] if alone else []),
        )  # fmt: skip
    return table


def _lengths(points: Sequence[Any], first: str, console: Console) -> None:
    found = efficiency_lengths(points)
    if not found:
        return
    console.print(Text("\nefficiency length (first measured length from which it beats dense)", style="bold"))
    for label, crossings in found.items():
        parts = "; ".join(f"{words} {crossings[key]}" for key, words in zip(RATIOS, (first, "decode"), strict=True))
        console.print(Text(f"  {plain(label)}: {parts}"))


def _reasons(run: Mapping[str, Any], console: Console) -> None:
    """Each reason once, with the methods and the points (length x batch) it holds for."""
    places: dict[tuple[str, str, str], list[str]] = {}  # (method, status, reason)
    for point in run["points"]:
        for row in point["rows"]:
            done = row["status"] == "done"
            key = (row["method"], "does nothing" if done else row["status"], row["note"] if done else row["reason"])
            if key[2]:
                places.setdefault(key, []).append(f"{point['length']} x {point['batch']}")
    methods: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (method, status, reason), where in places.items():
        methods.setdefault((status, reason, tuple(where)), []).append(plain(method))
    if methods:
        console.print()
    for (status, reason, at_points), labels in methods.items():
        at = "" if len(at_points) == len(run["points"]) else f" at {', '.join(at_points)}"
        console.print(Text(f"{', '.join(labels)} {status}{at}: {plain(reason)}", style="yellow"))


def _noise(run: Mapping[str, Any], console: Console) -> None:
    """Say where dense itself was not steady: other work on the machine, and ratios that tell little."""
    told = []
    for point in run["points"]:
        for row in point["rows"]:
            if row["method"] == BASELINE and row["status"] == "done":
                worst = max(row[key]["q80"] / row[key]["q20"] for key in bound.WORK)
                told += [f"{point['length']} x {point['batch']} ({worst:.2g})"] if worst > NOISY else []
    if told:
        console.print(
            Text(
                f"unsteady machine: dense's own times vary (80 % / 20 % quantile) at {', '.join(told)}", style="yellow"
            )
        )


def _legend(run: Mapping[str, Any], console: Console, alone: bool) -> None:
    rows = [row for p in run["points"] for row in p["rows"]]
    text = (
        "of bound (prefill, decode): time that the machine's peaks allow for the FLOP and bytes by formula / measured"
    )
    if any((row.get(f"of_bound_{k}") or 0) > 1 for row in rows for k in ("ttft_ms", "decode_ms_per_token")):
        text += "; above 100 %: the data stayed in a cache, or the machine was busy while its peaks were measured"
    console.print(Text(text, style="dim"))
    if any((row.get("memory_kind") or "").startswith("cpu") for row in rows):
        console.print(Text("memory growth: resident memory of the process during one request, over before it", "dim"))
    if alone:
        console.print(Text("lists: making block lists and masks, once per forward and shared by its layers", "dim"))


def number(value: float) -> str:
    """Three digits.

    >>> number(1234.5), number(12.345), number(0.01234)
    ('1234', '12.3', '0.0123')
    """
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value: float) -> str:
    """Two decimals, three where that says nothing.

    >>> ratio(1.256), ratio(0.0312)
    ('1.26', '0.031')
    """
    return f"{value:.2f}" if value >= 0.095 else f"{value:.3f}"


def _spread(part: Mapping[str, Any] | None, wide: bool, shown: Callable[[float], str] = number) -> str:
    if part is None:
        return "-"
    middle, low, high = (shown(part[k]) for k in ("median", "q20", "q80"))
    return f"{middle}{' ' if wide else chr(10)}[{low}, {high}]"


def _two(first: str, second: str, wide: bool) -> str:
    return f"{first} / {second}" if wide else f"{first}\n{second}"


def _share(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 0.995 else f"{100 * value:.0f} %"


def _density(value: float | None) -> str:
    return "1" if value is None else f"{value:.3g}"
