"""A bench record as curves (png) and as a table for machines (CSV), both beside the record."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.compose import BASELINE
from harness.disk.whole import write_bytes
from harness.efficiency import bound

# Okabe and Ito's colours, told apart by people who see colours differently; every line has its own marker as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
BOUND = "bound of dense on this machine"
MARKERS = "s^Dvo<>pX*"
SPREADS = ("ttft_ms", "decode_ms_per_token", "lists_ms", "ratio_ttft", "ratio_decode")
PLAIN = (
    "of_bound_ttft_ms", "of_bound_decode_ms_per_token", "bound_ttft_ms", "bound_decode_ms_per_token",
    "peak_memory_bytes", "memory_before_bytes", "memory_grown_bytes", "memory_kind", "kv_bytes_logical",
    "kv_bytes_physical", "flops_prefill", "flops_step", "bytes_prefill", "bytes_step", "density_prefill",
    "density_decode", "simulated", "note", "reason",
)  # fmt: skip


def write(content: Mapping[str, Any], record: Path) -> list[Path]:
    """Write both from the newest run; nothing is drawn if nothing has a time."""
    table, picture = record.with_suffix(".csv"), record.with_suffix(".png")
    write_bytes(table, csv_text(content).encode())
    drawn = png(content)
    if drawn is None:
        return [table]
    write_bytes(picture, drawn)
    return [table, picture]


def csv_text(content: Mapping[str, Any]) -> str:
    """One line for each method at each point."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    spreads = [f"{key}_{part}" for key in SPREADS for part in ("median", "q20", "q80", "n")]
    writer.writerow(["model", "length", "batch", "method", "status", *spreads, *PLAIN])
    for point in bound.points(content["runs"][-1]):
        for row in point["rows"]:
            values = [(row.get(key) or {}).get(part) for key in SPREADS for part in ("median", "q20", "q80", "n")]
            head = [content["shown"]["model"], point["length"], point["batch"], row["method"], row["status"]]
            writer.writerow([*head, *values, *(row.get(key) for key in PLAIN)])
    return out.getvalue()


def png(content: Mapping[str, Any]) -> bytes | None:
    """Time against length on logarithmic axes: prefill on the left, decode on the right, one row for each batch size."""
    from matplotlib.figure import Figure

    run = content["runs"][-1] | {"points": bound.points(content["runs"][-1])}
    batches = sorted({p["batch"] for p in run["points"] if any(r["status"] == "done" for r in p["rows"])})
    if not batches:
        return None
    alone = content["about"]["kind"] == "attention"
    titles = {
        "ttft_ms": "prefill of one layer's attention" if alone else "time to first token",
        "decode_ms_per_token": "decode step of one layer's attention" if alone else "decode, per token",
    }
    labels = list(dict.fromkeys(row["method"] for p in run["points"] for row in p["rows"]))
    figure = Figure(figsize=(10, 3.9 * len(batches) + 0.9), layout="constrained")
    axes = figure.subplots(len(batches), 2, squeeze=False)
    for batch, pair in zip(batches, axes, strict=True):
        points = sorted((p for p in run["points"] if p["batch"] == batch), key=lambda p: p["length"])
        for (key, title), ax in zip(titles.items(), pair, strict=True):
            for i, label in enumerate(labels):
                _curve(ax, points, label, key, i)
            _bound(ax, points, key)
            _frame(ax, title, batch, [p["length"] for p in points if any(key in r for r in p["rows"])])
    found = [dict(zip(*reversed(pair[0].get_legend_handles_labels()), strict=True)) for pair in axes]
    legend = {name: handle for one in found for name, handle in one.items()}
    names = [name for name in (*labels, BOUND) if name in legend]
    handles = [legend[name] for name in names]
    figure.legend(handles, names, loc="outside lower center", ncols=min(5, len(names)), frameon=False)
    figure.suptitle(f"{content['shown']['model']}, {content['shown']['dtype']}\n{run['hardware']['name']}", fontsize=10)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _curve(ax: Any, points: Sequence[Any], label: str, key: str, i: int) -> None:
    rows = [(p["length"], r[key]) for p in points for r in p["rows"] if r["method"] == label and key in r]
    if not rows:
        return
    lengths, found = zip(*rows, strict=True)
    middle = [f["median"] for f in found]
    spread = [[f["median"] - f["q20"] for f in found], [f["q80"] - f["median"] for f in found]]
    dense = label == BASELINE
    ax.errorbar(
        lengths, middle, yerr=spread, label=label, capsize=3, markersize=6,
        color="black" if dense else COLOURS[(i - 1) % len(COLOURS)], linewidth=2.2 if dense else 1.4,
        marker="o" if dense else MARKERS[(i - 1) % len(MARKERS)], markerfacecolor="white" if dense else None,
        linestyle="-" if dense or (i - 1) < len(COLOURS) else "--", zorder=3 if dense else 2,
    )  # fmt: skip


def _bound(ax: Any, points: Sequence[Any], key: str) -> None:
    rows = [(p["length"], r[f"bound_{key}"]) for p in points for r in p["rows"] if r["method"] == BASELINE and key in r]
    if rows:
        ax.plot(*zip(*rows, strict=True), color="grey", linestyle=":", label=BOUND, marker=".")


def _frame(ax: Any, title: str, batch: int, lengths: Sequence[int]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter

    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set(title=f"{title}, batch {batch}", xlabel="prompt tokens", ylabel="ms (median, 20-80 %)")
    ax.set_xticks(lengths, [f"{n:,}" for n in lengths])
    ax.xaxis.set_minor_locator(NullLocator())
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(True, which="major", alpha=0.3)
