"""`heed bench`: time, memory and work of methods over lengths and batch sizes, next to dense and to what is possible.

How it is measured, step by step:

1. A point is one prompt length and one batch size. At every point dense and all methods are measured together.
2. `bench.kind=model`: requests of the whole model. Prompts are random token ids (all samples of a batch of one length,
   no padding), so methods that choose keys by their content see content without meaning: their cost is right where it
   depends on sizes, and a guess where it depends on what is chosen. A request is what `measure.py` describes: time to
   first token (the method's own work included), then `bench.new_tokens` decode steps timed as one stretch.
   `bench.kind=attention`: one layer's attention function alone on random q, k, v of the model's shape, called twice in a
   forward (`subjects.py`): block lists that layers share stand apart, as `lists`.
3. The method is attached anew for every request, outside the timing; afterwards the model is what it was.
4. Warm-up: two requests of each method that do not count (one if it is slow). Unused memory is given back before each;
   in the last one peak memory, the bytes of the cache and the density are read. On a GPU peak memory is the allocator's
   (weights included); on a CPU it is the growth of the process's resident memory during the request.
5. Rounds: in each, every method and dense run once; the order is turned round from round to round (`rounds.py`). At most
   `bench.repeats` rounds, fewer when the methods together have taken `bench.budget_s` seconds for each of them; n is
   stored. A method whose one request takes longer than that is left out there and at longer prompts.
6. The clock is the process's monotonic one; on a GPU every device in use is synchronised before each reading of it.
7. Times are medians with 20 and 80 % quantiles over the rounds. The ratio to dense is made inside each round, then its
   median and quantiles are taken; below 1 is faster.
8. Operations and bytes are counted by formula (`formulas.py`), with the density that was really read. The bound is
   max(operations / peak of a matrix product, bytes / peak of memory). Both peaks are measured on this machine before the
   first point and after every one (`machine.py`), and the best is kept; `of bound` is the bound's time over the measured
   median.
9. Efficiency length: the first measured length from which a method beats dense, and the interval it is known to lie in
   (`crossing.py`), apart for the prefill and for decode. A method whose prefill is dense's own, or that is idle at a
   length, cannot be faster there, whatever the ratio says.
10. Sparsity that is a mask inside a dense kernel is `simulated`: no time is taken, and no efficiency length is given.

Every point is written to the record as soon as it is there, so an interrupted bench goes on where it stopped. Times
depend on the machine and are compared within one record only.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from harness.config.compose import BASELINE
from harness.contracts.method import Method
from harness.efficiency.bench_settings import BenchSettings
from harness.efficiency.formulas import Work
from harness.efficiency.measure import summary
from harness.efficiency.rounds import Series, alternate, ratio
from harness.efficiency.subjects import AttentionAlone, Took, WholeModel
from harness.errors import UserError

Row = dict[str, Any]
Subject = WholeModel | AttentionAlone


def measure(
    subject: Subject,
    methods: Mapping[str, Method],
    settings: BenchSettings,
    done: Callable[[int, int], bool] = lambda n, batch: False,
    keep: Callable[[Row], None] = lambda point: None,
    tick: Callable[[int, int, str], None] = lambda n, batch, label: None,
) -> None:
    """Measure all points that are not `done`; `keep` takes each as soon as it is there."""
    gc.collect()
    gc.freeze()  # what is there already is no garbage: looking for some in it would take longer than a small request
    try:
        _all(subject, methods, settings, done, keep, tick)
    finally:
        gc.unfreeze()


def _all(
    subject: Subject, methods: Mapping[str, Method], settings: BenchSettings, done: Any, keep: Any, tick: Any
) -> None:
    refused = subject.refusals()
    over: dict[str, list[tuple[int, int]]] = {}
    for n, batch in settings.points:
        if done(n, batch):
            continue
        left = {label: ("refused", reason) for label, reason in refused.items()}
        for label, seen in over.items():
            if any(n >= m and batch >= b for m, b in seen):
                left[label] = (
                    "over budget",
                    f"left out from {min(seen)[0]} tokens on, where one request took too long",
                )
        series = _point(subject, [m for m in methods if m not in left], n, batch, settings, tick)
        series |= {label: Series(left=why) for label, why in left.items()}
        for label, one in series.items():
            if one.left is not None and one.left[0] == "over budget":
                over.setdefault(label, []).append((n, batch))
        rows = [row(label, methods[label], series, subject, n, batch) for label in methods]
        keep({"length": n, "batch": batch, "rows": rows})


def _point(subject: Subject, labels: Sequence[str], n: int, batch: int, settings: BenchSettings, tick: Any) -> Any:
    try:
        subject.at(n, batch)
    except UserError as error:
        return {label: Series(left=("refused", str(error))) for label in labels}
    single = [label for label in labels if batch > 1 and subject.methods[label].batching == "one"]
    why = ("refused", f"it takes one prompt at a time, and the batch is {batch}")
    with torch.no_grad():
        rest = [label for label in labels if label not in single]
        found = alternate(rest, subject.request, settings.repeats, settings.budget_s, lambda m: tick(n, batch, m))
    return found | {label: Series(left=why) for label in single}


def row(label: str, method: Method, series: Mapping[str, Series], subject: Subject, n: int, batch: int) -> Row:
    """Everything that is known of one method at one point, as plain JSON values. Times are in milliseconds."""
    one = series[label]
    status, reason = one.left or ("done", "")
    found: Row = {"method": label, "status": status, "reason": reason, "note": method.idle(n)}
    found["prefill_is_dense"] = method.prefill_is_dense
    if one.warm is not None:
        found |= _facts(one.warm, subject.work(n, batch, one.warm.usage))
    if status != "done":
        return found
    first, step = ([getattr(t, part) * 1e3 for t in one.rounds] for part in ("first", "step"))
    found |= {"ttft_ms": summary(first), "decode_ms_per_token": summary(step)}
    if one.rounds[0].lists is not None:
        found["lists_ms"] = summary([(t.lists or 0.0) * 1e3 for t in one.rounds])
    if label != BASELINE:
        dense = series[BASELINE].rounds
        found["ratio_ttft"] = ratio([t.first for t in one.rounds], [t.first for t in dense])
        found["ratio_decode"] = ratio([t.step for t in one.rounds], [t.step for t in dense])
    return found


def _facts(warm: Took, work: Work) -> Row:
    """What needs no clock."""
    usage = warm.usage
    grown = None if warm.peak is None or warm.before is None else warm.peak - warm.before
    return {
        "peak_memory_bytes": warm.peak, "memory_before_bytes": warm.before, "memory_grown_bytes": grown,
        "memory_kind": warm.memory_kind, "kv_bytes_logical": warm.kv_logical, "kv_bytes_physical": warm.kv_physical,
        "density_prefill": usage.get("density_prefill"), "density_decode": usage.get("density_decode"),
        "simulated": bool(usage.get("simulated")), **asdict(work),
    }  # fmt: skip
