"""Stored cells for tests of the report: written file by file, so that thousands of them, and broken ones, are cheap."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from harness.analysis.summarise import summarise
from harness.contracts.metric import Metric
from harness.identity.run_id import run_id
from tests.records.cells import efficiency

ACC = Metric("accuracy")
CHAIR = (
    Metric("chair_s", higher_is_better=False), Metric("chair_i", higher_is_better=False), Metric("recall", companion=True),
    Metric("length", percent=False, companion=True),
)  # fmt: skip
HOSTILE = (
    "</script><script>window.pwned=1</script><img src=x onerror=\"window.pwned=1\"> {{7*7}} javascript:alert(1) "
    "<!-- <style>body{display:none}</style> \u202egnp.exe\u202c \u2066x\u2069 \x00\x1b[31m\x07 "
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u2028 & &lt;"
)  # fmt: skip


def row(name: str, text: str = "x", **metrics: float) -> dict[str, Any]:
    """One sample."""
    return {
        "id": name, "cluster": "", "prompt_sha256": hashlib.sha256(name.encode()).hexdigest()[:16],
        "meta": {"length": 1000 * (1 + len(name) % 2)}, "references": ["r"], "text": text, "n_prompt_tokens": 9, "n_new_tokens": 2,
        "finish": "stop", "metrics": metrics or {"accuracy": 1.0}, "parsed": text[:20], "flags": [], "usage": {},
    }  # fmt: skip


def grid(
    rate: float, n: int = 40, text: str = "", seed: int = 0, lengths: int = 2, depths: int = 5
) -> list[dict[str, Any]]:
    """Answers over a grid of lengths and depths, of which a share of about `rate` is right."""
    out = []
    for i in range(n):
        right = Random(f"{seed} {i}").random() < rate
        found = row(f"e{i:04}", text or f"answer {i} {right}", accuracy=float(right))
        found["meta"] = {
            "length": 1024 * 2 ** (i % lengths),
            "depth": 100 * (i // lengths % depths) / max(1, depths - 1),
        }
        out.append(found)
    return out


def store(
    root: Path,
    method: str,
    rows: Sequence[dict[str, Any]],
    dense: Sequence[dict[str, Any]] | None = None,
    *,
    model: str = "micro",
    task: str = "passkey",
    metrics: Sequence[Metric] = (ACC,),
    by: Sequence[str] = ("length", "depth"),
    metrics_json: dict[str, Any] | None = None,
    density: float | None = None,
    budget: str = "tokens read by one query",
    leaves_out: bool = True,
    **changes: Any,
) -> Path:
    """Write a finished cell; returns its folder. `changes`: of config.json (`identity`, `preset`, ...), or `efficiency`."""
    identity = {
        "model": {"name": model},
        "method": {"target": method, "params": {}},
        "task": {"target": task},
        "seed": 0,
    }
    identity |= changes.pop("identity", {})
    folder = root / "runs" / run_id(identity)
    folder.mkdir(parents=True)
    facts = {"metrics": [asdict(m) for m in metrics], "by": list(by), "chance": {}, "unreadable": ["empty"]}
    config = {
        "schema": 1, "labels": {"model": model, "method": method, "task": task}, "preset": "ci",
        "identity": identity,
        "task_facts": facts,
        "method_facts": {"paper": "2401.00001", "needs": [], "budget": budget, "leaves_out": leaves_out},
    }  # fmt: skip
    measured = changes.pop("efficiency", None) or efficiency()
    samples = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode(errors="surrogatepass")
    result = dict(metrics_json or summarise(facts, rows, dense))
    if density is not None:
        result["usage"] = {"density_prefill": density, "density_decode": density}
    write(folder / "config.json", config | changes)
    write(folder / "efficiency.json", measured)
    write(folder / "provenance.json", provenance())
    (folder / "samples.jsonl").write_bytes(samples)
    write(folder / "metrics.json", result)
    seal(folder)
    return folder


def write(file: Path, obj: Any) -> None:
    file.write_text(json.dumps(obj))


def seal(folder: Path) -> None:
    """DONE for what stands in the folder now, as it was sealed at first."""
    samples, metrics = ((folder / name).read_bytes() for name in ("samples.jsonl", "metrics.json"))
    digest = {
        "samples_sha256": hashlib.sha256(samples).hexdigest(),
        "metrics_sha256": hashlib.sha256(metrics).hexdigest(),
    }
    write(folder / "DONE", {"schema": 1, "n": samples.count(b"\n"), **digest})


@cache
def provenance() -> dict[str, Any]:
    session = {
        "started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:00+00:00", "heed": "0.1.0", "commit": "c0ffee" * 6,
        "python": "3.11", "versions": {"torch": "2.9"}, "platform": "Linux", "cpus": 2,
    }  # fmt: skip
    return {"sessions": [session]}


def many(root: Path, models: int = 20, methods: int = 10, tasks: int = 10) -> int:
    """Finished cells of every combination, with a grid of 60 groups and 60 samples each; returns how many."""
    dense = grid(0.9, 60, "the quick brown fox " * 20, lengths=6, depths=10)
    made = {}
    for k in range(methods):
        rows = dense if not k else grid(0.9 - 0.08 * k, 60, f"method {k} says: lorem ipsum dolor " * 12, k, 6, 10)
        facts = {"metrics": [asdict(ACC)], "by": ["length", "depth"]}
        made[k] = rows, summarise(facts, rows, dense if k else None)
    for m in range(models):
        for t in range(tasks):
            for k, (rows, result) in made.items():
                name = "dense" if not k else f"method-{k}"
                found = efficiency(simulated=k == 3) | {"ttft_ms": 10.0 + k + m}
                store(root, name, rows, model=f"model-{m:02}", task=f"task-{t:02}", metrics_json=result, efficiency=found,
                      density=1.0 if not k else 0.05 + 0.09 * k)  # fmt: skip
    return models * methods * tasks
