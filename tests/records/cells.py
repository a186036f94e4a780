"""Stored cells made by hand, for tests of what reads them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from harness.analysis.summarise import summarise
from harness.contracts.metric import Metric
from harness.identity.run_id import run_id as id_of
from harness.records.store import CellRecord, CellStore, read_cells

ACC = Metric("accuracy")
PPL = Metric("ppl", "ratio", num="nll", den="tokens", transform="exp", higher_is_better=False, percent=False)


def sample_rows(rate: float, n: int = 40, seed: int = 0, **usage: float) -> list[dict[str, Any]]:
    """`n` answers of which a share of about `rate` is right, over two lengths; the same seed gives the same luck."""
    rows = []
    for i in range(n):
        rng = Random(f"{seed} {i}")
        metrics = {"accuracy": float(rng.random() < rate), "nll": 50 * (3 - rate) + rng.random(), "tokens": 50.0}
        rows.append({
            "id": f"e{i:03}", "cluster": "", "meta": {"length": 1000 * (1 + i % 2)}, "text": "x", "metrics": metrics,
            "flags": ["empty"] if i % 10 == 0 else [], "usage": usage,
        })  # fmt: skip
    return rows


def efficiency(device: str = "cpu", simulated: bool = False) -> dict[str, Any]:
    """A stored measurement."""
    return {
        "ttft_ms": {"median": 12.5, "q20": 12.0, "q80": 13.0, "n": 5},
        "decode_ms_per_token": {"median": 4.0, "q20": 3.9, "q80": 4.4, "n": 5},
        "decode_tokens_per_s": {"median": 250.0, "q20": 227.0, "q80": 256.0, "n": 5},
        "peak_memory_bytes": 3 * 2**29, "memory_kind": "rss", "kv_bytes_logical": 1 << 20, "kv_bytes_physical": 1 << 20,
        "hardware": {"device": device, "name": "test"}, "simulated": simulated, "prompt_tokens": 512,
    }  # fmt: skip


def add_cell(
    root: Path,
    method: str,
    rows: list[dict[str, Any]],
    dense: list[dict[str, Any]] | None = None,
    *,
    model: str = "micro",
    task: str = "passkey",
    metric: Metric = ACC,
    by: tuple[str, ...] = ("length",),
    n_skipped: int = 0,
    device: str = "cpu",
    simulated: bool = False,
    measured: bool = True,
    identity: dict[str, Any] | None = None,
) -> CellRecord:
    """Store a finished cell and read it back."""
    config = {
        "labels": {"model": model, "method": method, "task": task},
        "identity": {"model": {"name": model}, "method": {"name": method}, "task": {"name": task}, "seed": 0}
        | (identity or {}),
        "task_facts": {"metrics": [asdict(metric)], "by": list(by)},
    }
    run_id = id_of(config["identity"])
    with CellStore(root, run_id, config) as store:
        store.append(rows)
        if measured:
            store.write_json("efficiency.json", efficiency(device, simulated))
        store.finish(summarise(config["task_facts"], rows, dense, n_skipped))
    return next(c for c in read_cells(root) if c.run_id == run_id)
