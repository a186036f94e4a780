"""On a real GPU: the answers of a processor, compiled patterns, memory that really runs out. Left out where there is none."""

from __future__ import annotations

import json

import pytest
import torch

from harness.attention.attach import attach
from harness.config.compose import compose
from harness.models.load import ModelSpec
from harness.plan.cells import cells
from harness.running.run import RunSettings, execute

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
TEXT = (
    "method=[power,quest,snapkv,h2o,streaming_kv,sliding]", "task=[passkey,recall]", "task.passkey.trials=2", "task.recall.samples=12",
)  # fmt: skip
PICTURES = ("method=[vcd,pai,vista,vhr]", "task=[pope]", "limit=12")


def answers(root, model, device, *overrides, **settings):
    """(method, task, id) -> text."""
    made = cells(compose([f"model={model}", f"model.{model}.device={device}", *overrides]))
    limit = next((int(text.partition("=")[2]) for text in overrides if text.startswith("limit=")), None)
    outcomes = execute(made, RunSettings(root, limit=limit, efficiency="off", **settings))
    assert {o.status for o in outcomes} == {"done"}, [o.reason for o in outcomes]
    found = {}
    for cell in made:
        for line in (root / "runs" / cell.run_id / "samples.jsonl").read_text().splitlines():
            row = json.loads(line)
            found[cell.method_label, cell.task_label, row["id"]] = row["text"]
    return found


@pytest.mark.parametrize(("model", "overrides"), [("micro-lm", TEXT), ("micro-vlm", PICTURES)])
def test_answers_are_those_of_a_processor(tmp_path, model, overrides):
    """Sums are made in another order, so a rare tie may fall the other way."""
    here, there = (answers(tmp_path / device, model, device, *overrides) for device in ("cuda", "cpu"))
    assert here.keys() == there.keys()
    assert sum(here[key] == there[key] for key in there) >= 0.97 * len(there)


def test_memory_that_runs_out_halves_the_batch(tmp_path):
    passkey = ("task=[passkey]", "method=[]", "task.passkey.lengths=[1500]", "task.passkey.trials=12")
    calm = answers(tmp_path / "calm", "micro-lm", "cuda", *passkey)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    taken = torch.cuda.memory_allocated() + (256 << 20)
    try:
        torch.cuda.set_per_process_memory_fraction(taken / total)
        torch.cuda.reset_accumulated_memory_stats()
        tight = answers(tmp_path / "tight", "micro-lm", "cuda", *passkey, batch_tokens=1_000_000)
        refused = torch.cuda.memory_stats()["num_ooms"]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert refused and len(tight) == 60
    assert sum(tight[key] == calm[key] for key in calm) >= 58


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compiled_patterns_are_those_of_the_mask(dtype):
    from methods.patterns.power import PowerAttention

    view = ModelSpec(path="micro-lm", device="cuda", dtype=dtype).load()
    ids = torch.randint(5, 100, (1, 777), generator=torch.Generator().manual_seed(3)).cuda()
    method, found = PowerAttention(block_size=32, window_blocks=2), {}
    for lowering in ("dense", "gather", "flex"):
        with torch.no_grad(), attach(view, method, lowering) as attached:
            found[lowering] = view.model(ids).logits.float()
            assert attached.report()["simulated"] == (lowering == "dense")
    close = {"rtol": 1e-3, "atol": 1e-3} if dtype == "float32" else {"rtol": 0.1, "atol": 0.25}
    for lowering in ("gather", "flex"):
        torch.testing.assert_close(found[lowering], found["dense"], **close)
