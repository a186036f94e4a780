"""The board as plain JSON for the page: first what the table needs, then parts that are read when somebody opens them.

Keys are short and numbers have five digits, so that thousands of cells fit into one file of at most `LIMIT` bytes: groups lose
their intervals, then go altogether, and examples get fewer and shorter. What was left out is said in the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness import __version__
from harness.contracts.metric import Metric
from harness.report import numbers, probe_sections
from harness.report.alarms import KINDS
from harness.report.board import Block, Board
from harness.report.examples import SCANNED
from harness.report.facts import REASON, facts, short
from harness.report.line import Line
from harness.report.origins import Environments
from harness.report.papers import papers
from harness.report.pareto import AXES, axis, cost, place
from harness.terminal.visible import cut, line, visible

LIMIT = 14_500_000  # bytes of JSON; the page around them is small
BASE = 10_000_000  # of these, at most for what is not an example
FULL, NARROW, NONE = 2, 1, 0  # detail of groups
MANY = 2_000  # groups of one cell
SHARE = 400_000  # bytes of examples of one cell

Json = Any


def pages(board: Board) -> dict[str, Json]:
    """`main`, `probe-tables`, and `block-<b>`, `cell-<i>` (i counts the lines of all blocks)."""
    lines = board.lines
    environments = Environments()
    main = _main(board, environments)
    cells = {f"cell-{i}": _cell(one, environments) for i, one in enumerate(lines)}
    main["environments"] = environments.known
    main["published"], unread = papers(board)
    untold: list[str] = []
    probes = probe_sections.page(board.probes, untold)
    base = n_bytes(main) + n_bytes(probes) + sum(map(n_bytes, cells.values()))
    for detail in (FULL, NARROW, NONE):
        blocks = {f"block-{b}": _block(block, detail) for b, block in enumerate(board.blocks)}
        total = base + sum(map(n_bytes, blocks.values()))
        if total <= BASE:
            break
    main["left_out"] = unread + untold + _left_out(detail)
    _add_examples(lines, cells, LIMIT - total, main["left_out"])
    return {"main": main, "probe-tables": probes, **blocks, **cells}


def n_bytes(part: Json) -> int:
    """Bytes of a part in the page."""
    return len(dumps(part).encode())


def dumps(part: Json) -> str:
    """Strict JSON of which no character can end the element that holds it, or a line of a script.

    >>> dumps("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(part, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


# -- main ------------------------------------------------------------------------------------------------------------


def _main(board: Board, environments: Environments) -> dict[str, Json]:
    rows = []
    for b, block in enumerate(board.blocks):
        rows += [_row(b, block, one) for one in block.lines]
    return {
        "version": __version__,
        "counts": board.counts,
        "alarms": list(KINDS),
        "axes": [{"key": a.key, "title": a.title, "low": a.lower_is_better, "measured": a.measured} for a in AXES],
        "blocks": [_block_head(block) for block in board.blocks],
        "rows": rows,
        "problems": [
            {"status": p.status, "name": line(p.name), "run": line(p.run_id, 80), "reason": line(p.reason, REASON)}
            for p in board.problems
        ],
    }


def _block_head(block: Block) -> dict[str, Json]:
    head = block.headline
    return {
        "model": line(block.model, 200),
        "task": line(block.task, 200),
        "preset": line(block.preset, 80),
        "note": line(block.note, 300),
        "metric": numbers.title(head) if head else "result",
        "percent": bool(head and head.percent),
        "higher": bool(head is None or head.higher_is_better),
        "n": len(block.lines),
    }


def _row(b: int, block: Block, one: Line) -> dict[str, Json]:
    row, metric = one.row, one.row["metric"]
    done = row["status"] == "done"
    estimate, difference = (row["estimate"] or {}, row["difference"] or {}) if done else ({}, {})
    found = {
        "b": b,
        "method": line(row["method"], 200),
        "apart": line(one.note, 200),
        "preset": line(one.cell.config.get("preset") or "-", 80),
        "run": line(one.cell.run_id, 80),
        "status": row["status"],
        "value": short(estimate.get("value")),
        "low": short(estimate.get("low")),
        "high": short(estimate.get("high")),
        "valueText": numbers.value(estimate, metric),
        "intervalText": numbers.interval(estimate, metric),
        "beside": "; ".join(filter(None, (numbers.idle(row), numbers.companions(block.companions, one.cell.metrics))))
        if done
        else "",
        "n": row["n"],
        "nText": numbers.count(row),
        "diff": short(difference.get("value")),
        "diffText": numbers.difference(difference, metric),
        "diffInterval": numbers.interval(difference, metric, sign=True),
        "alarms": [[alarm.kind, line(alarm.text, 300)] for alarm in one.alarms],
        "density": short(row["density_decode"]),
        "densityText": numbers.share(row["density_prefill"], row["density_decode"]),
        "kv": short(row["kv_physical"]),
        "kvText": numbers.share(row["kv_logical"], row["kv_physical"]),
        "ttft": short(cost(row, axis("ttft_ms"))),
        "ttftText": numbers.speed(row, "ttft_ms", named=True),
        "speed": short(cost(row, axis("decode_tokens_per_s"))),
        "speedText": numbers.speed(row, "decode_tokens_per_s"),
        "memory": short(row["peak_memory_bytes"]),
        "memoryText": numbers.memory(row),
    }
    return {key: value for key, value in found.items() if value not in (None, "", [], "-")}


# -- one block -------------------------------------------------------------------------------------------------------


def _block(block: Block, detail: int) -> dict[str, Json]:
    """`metrics`, `values` and `diffs` (aligned with metrics, one entry per line), `costs`, `fronts`, `groups`."""
    done = [one if one.row["status"] == "done" else None for one in block.lines]
    return {
        "metrics": [_metric(m, block.metrics) for m in block.metrics],
        "values": [one and _numbers(one.cell.metrics.get("values"), block.metrics) for one in done],
        "diffs": [one and _changes(one.cell.metrics.get("vs_dense"), block.metrics) for one in done],
        "costs": {a.key: [one and short(cost(one.row, a)) for one in done] for a in AXES},
        "places": [one and line(place(one.row), 200) for one in done],
        "simulated": [i for i, one in enumerate(done) if one and one.row["simulated"]],
        "fronts": {k: {line(p, 200): v for p, v in found.items()} for k, found in block.fronts().items()},
        "groups": _groups(done, block.headline, detail) if detail else [],
    }


def _metric(metric: Metric, metrics: Sequence[Metric]) -> dict[str, Json]:
    """`part`: [base, suffix] of a metric of one part of the examples (one set of questions among several)."""
    base = metric.name.removesuffix(f"_{metric.macro[0]}") if len(metric.macro) == 1 else metric.name
    part = [base, metric.macro[0]] if base != metric.name and any(m.name == base for m in metrics) else None
    return {
        "name": line(metric.name, 60), "percent": metric.percent, "shown": metric.shown,
        "higher": metric.higher_is_better or not metric.judged,
        "part": part,
    }  # fmt: skip


def _numbers(values: Mapping[str, Any] | None, metrics: Sequence[Metric]) -> list[Json]:
    parts = [(values or {}).get(m.name) or {} for m in metrics]
    return [[short(p.get(k)) for k in ("value", "low", "high")] if p.get("value") is not None else None for p in parts]


def _changes(changes: Mapping[str, Any] | None, metrics: Sequence[Metric]) -> list[Json] | None:
    if not changes:
        return None
    parts = [changes.get(m.name) or {} for m in metrics]
    return [
        [*(short(p.get(k)) for k in ("value", "low", "high")), numbers.mark_of(p)]
        if p.get("value") is not None
        else None
        for p in parts
    ]


def _groups(lines: Sequence[Line | None], metric: Metric | None, detail: int) -> list[Json]:
    """The headline metric by each key, and by combinations: `{by, keys, rows}`; `rows[i]` is aligned with `keys`."""
    if metric is None:
        return []
    found: dict[tuple[str, ...], dict[str, list[Any]]] = {}
    cells: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
    for i, one in enumerate(lines):
        for group in (one.row["groups"] if one else [])[:MANY]:
            by = tuple(group["by"])
            key = json.dumps(list(group["by"].values()), default=str)
            found.setdefault(by, {})[key] = [_key(v) for v in group["by"].values()]
            cells.setdefault(by, {}).setdefault(i, {})[key] = group
    return [
        {"by": [line(k, 60) for k in by], "keys": list(keys.values()),
         "rows": {i: _aligned(of, list(keys), metric, detail == FULL and len(by) == 1) for i, of in cells[by].items()}}
        for by, keys in found.items()
    ]  # fmt: skip


def _aligned(groups: Mapping[str, Any], keys: Sequence[str], metric: Metric, wide: bool) -> dict[str, list[Json]]:
    members = [groups.get(key) or {} for key in keys]
    values = [(g.get("values") or {}).get(metric.name) or {} for g in members]
    changes = [(g.get("vs_dense") or {}).get(metric.name) or {} for g in members]
    out: dict[str, list[Json]] = {"v": [_rough(v.get("value")) for v in values], "n": [g.get("n") for g in members]}
    if any(g.get("n_idle") for g in members):  # 2: all samples of the group are dense's, 1: some
        out["e"] = [bool(g.get("n_idle")) + (g.get("n_idle") == g.get("n")) if g.get("n_idle") else 0 for g in members]
    if any(c.get("significant") for c in changes):
        out["s"] = [int(bool(c.get("significant"))) for c in changes]
    if wide:
        out |= {k: [_rough(v.get(name)) for v in values] for k, name in (("lo", "low"), ("hi", "high"))}
    return out


def _rough(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.4g}")


def _key(value: Any) -> Json:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else line(value, 80)


def _cell(one: Line, environments: Environments) -> dict[str, Json]:
    return facts(one.cell, one.row) | {"sessions": environments.of(one.cell)}


# -- examples --------------------------------------------------------------------------------------------------------


def _left_out(detail: int) -> list[str]:
    if detail == FULL:
        return []
    what = "Breakdowns are" if detail == NONE else "The intervals of breakdowns are"
    return [f"{what} left out of this page, to keep it small: they are in each cell's metrics.json."]


def _add_examples(lines: Sequence[Line], cells: Mapping[str, dict[str, Json]], room: int, left_out: list[str]) -> None:
    """Give every cell an equal share of the room; what one does not need, the next ones may use."""
    waiting = sorted(range(len(lines)), key=lambda i: len(lines[i].scan.examples))
    shortest = 0
    for done, i in enumerate(waiting):
        allowed = min(SHARE, max(0, room) // (len(waiting) - done))
        limit = max(160, min(2_000, allowed // 8))
        scan, part = lines[i].scan, cells[f"cell-{i}"]
        part["seen"] = [scan.seen, int(scan.more), scan.compared, scan.equal, scan.worse, scan.better]
        part["examples"], used = [], 0
        for example in scan.examples:
            shown = _example(example, limit)
            used += n_bytes(shown) + 1
            if used > allowed:
                used -= n_bytes(shown) + 1
                break
            part["examples"].append(shown)
        shortest += len(part["examples"]) < len(scan.examples)
        room -= used + 60
    if shortest:
        left_out.append(
            f"To keep this page small, {shortest} of {len(lines)} cells show fewer examples than were chosen."
        )
    if any(one.scan.more for one in lines):
        left_out.append(f"Examples were chosen among the first {SCANNED:,} samples of a cell.")


def _example(example: Mapping[str, Any], limit: int) -> dict[str, Json]:
    dense = dict(example.get("dense") or {})
    shown = {
        "id": line(example["id"], 200), "digest": line(example["digest"], 80), "o": example["order"], "s": short(example["score"]),
        "flags": example["flags"], "ref": example["references"], "parsed": example["parsed"], "meta": example["meta"],
        "np": example.get("n_prompt_tokens"), "nn": example.get("n_new_tokens"), "end": line(example.get("finish") or "", 40),
        **_texts(example, limit, ""), "ds": short(dense.get("score")), **_texts(dense, limit, "d"),
    }  # fmt: skip
    return {key: value for key, value in shown.items() if value not in (None, "", [])} | {"o": example["order"]}


def _texts(part: Mapping[str, Any], limit: int, prefix: str) -> dict[str, Json]:
    """The text, harmless, and how many characters it had if some are not shown."""
    if "text" not in part:
        return {}
    text, total = cut(part["text"], limit)
    return {f"{prefix}t": visible(text) or "(empty)", f"{prefix}c": part.get("cut") or total or None}
