"""Which single examples a report shows, found by streaming: a cell may have a million samples of ten megabytes each.

The first `SCANNED` samples of a cell are looked at, one at a time. Kept are short keys, of the best `KEPT` the texts; first
come those whose score is worse than dense's, then better, then other words with the same score, then the rest.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.board_rows import asked
from harness.contracts.metric import Metric
from harness.errors import UserError
from harness.report.line import Line, Scan
from harness.terminal.visible import cut, line, visible

SCANNED = 20_000
KEPT = 40
TEXT = 2_000  # characters of an output that are kept
SMALL = 300  # of references, what was parsed, meta
WORSE, BETTER, OTHER_WORDS, SAME, ALONE = range(5)

Key = tuple[str, str]  # id and prompt digest: only the same prompt is compared


@dataclass(frozen=True)
class _Seen:
    """What is remembered of each of dense's samples."""

    text: bytes
    score: float | None


def scan(lines: Sequence[Line], metric: Metric | None) -> None:
    """Fill `Line.scan` of the cells of one block."""
    dense = next((one for one in lines if one.row["is_baseline"] and one.row["status"] == "done"), None)
    known: dict[Key, _Seen] = {}
    if dense is not None and len(lines) > 1:
        known = {_key(row): _Seen(_digest(row), score_of(metric, row)) for row in _rows(dense)}
        dense.scan = Scan()
    for one in lines:
        if one.row["status"] in ("done", "unfinished", "failed"):
            _choose(one, metric, known if one is not dense else {})
    if dense is not None:
        _beside([one for one in lines if one is not dense], dense, metric)


def _rows(one: Line) -> Iterator[dict[str, Any]]:
    """The first samples of a cell; what is wrong with its file stands in `Scan.problem`, and ends it."""
    try:
        for row in itertools.islice(one.cell.stream(), SCANNED):
            one.scan.seen += 1
            yield row
        one.scan.more = one.scan.seen == SCANNED and (one.row["n"] or 0) > SCANNED
    except UserError as error:
        one.scan.problem = str(error)
    except (OSError, RecursionError) as error:
        one.scan.problem = f"{one.cell.path / 'samples.jsonl'} cannot be read: {line(error)}"


def _choose(one: Line, metric: Metric | None, dense: Mapping[Key, _Seen]) -> None:
    """Keep the most telling examples in a heap of bounded size."""
    heap: list[tuple[int, int, dict[str, Any]]] = []
    for number, row in enumerate(_rows(one)):
        order = _compare(one.scan, row, score_of(metric, row), dense.get(_key(row)), metric)
        entry = (-order, -number)
        if len(heap) < KEPT:
            heapq.heappush(heap, (*entry, short(row, metric, order)))
        elif entry > heap[0][:2]:
            heapq.heapreplace(heap, (*entry, short(row, metric, order)))
    one.scan.examples = [example for _, _, example in sorted(heap, key=lambda e: e[:2], reverse=True)]


def _compare(
    seen: Scan, row: Mapping[str, Any], score: float | None, dense: _Seen | None, metric: Metric | None
) -> int:
    if dense is None:
        return ALONE
    seen.compared += 1
    same = _digest(row) == dense.text
    seen.equal += same
    if score is not None and dense.score is not None and score != dense.score:
        better = (score > dense.score) == (metric is None or metric.higher_is_better)
        seen.better += better
        seen.worse += not better
        return BETTER if better else WORSE
    return SAME if same else OTHER_WORDS


def _beside(lines: Sequence[Line], dense: Line, metric: Metric | None) -> None:
    """Put dense's output beside each chosen example: one more pass over its file."""
    wanted: dict[Key, list[dict[str, Any]]] = {}
    for one in lines:
        for example in one.scan.examples:
            if example["order"] != ALONE:
                wanted.setdefault((example["id"], example["digest"]), []).append(example)
    if not wanted:
        return
    counted = dense.scan.seen
    for row in _rows(dense):
        for example in wanted.get(_key(row), ()):
            text = _text(row)
            example["dense"] = {"score": score_of(metric, row)}
            if example["order"] != SAME:
                example["dense"] |= dict(zip(("text", "cut"), cut(text, TEXT), strict=True))
    dense.scan.seen = counted


def score_of(metric: Metric | None, row: Mapping[str, Any]) -> float | None:
    """The headline metric of one example: its own number, or its own ratio."""
    found = row.get("metrics")
    if metric is None or not isinstance(found, Mapping):
        return None
    if metric.kind == "mean":
        return _number(found.get(metric.name))
    suffixes = [f"@{s}" for s in metric.macro if f"{metric.den}@{s}" in found] if metric.macro else [""]
    num = sum(_number(found.get(metric.num + s)) or 0.0 for s in suffixes)
    den = sum(_number(found.get(metric.den + s)) or 0.0 for s in suffixes)
    return num / den if den else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and -1e300 < value < 1e300 else None


def _text(row: Mapping[str, Any]) -> str:
    text = row.get("text")
    return text if isinstance(text, str) else "" if text is None else json.dumps(text)


def _key(row: Mapping[str, Any]) -> Key:
    return str(row.get("id")), asked(row)


def _digest(row: Mapping[str, Any]) -> bytes:
    return hashlib.blake2b(_text(row).encode(errors="surrogatepass"), digest_size=12).digest()


def short(row: Mapping[str, Any], metric: Metric | None, order: int) -> dict[str, Any]:
    """What is kept of a sample: texts are cut, and say how long they were."""
    text, total = cut(_text(row), TEXT)
    facts = {key: row[key] for key in ("n_prompt_tokens", "n_new_tokens", "finish") if key in row}
    flags = row.get("flags") if isinstance(row.get("flags"), list) else []
    return {
        "id": str(row.get("id")), "digest": asked(row), "order": order, "text": text, "cut": total,
        "score": score_of(metric, row), "flags": [line(flag, 40) for flag in flags[:8]] if flags else [],
        "references": _json(row.get("references")), "parsed": _json(row.get("parsed")), "meta": _json(row.get("meta")), **facts,
    }  # fmt: skip


def _json(value: Any) -> str:
    """A small value in one line."""
    if value in (None, [], {}):
        return ""
    short, total = cut(json.dumps(value, ensure_ascii=False), SMALL)
    return visible(short) + (" ..." if total else "")
