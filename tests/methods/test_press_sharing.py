"""Presses of kvpress share the dense prefill with everybody else, and answer as they do alone."""

from __future__ import annotations

import importlib.util
import json

import pytest

from harness.asking.decoding import GREEDY
from harness.config.compose import compose
from harness.plan.cells import cells
from harness.plan.sharing import groups
from harness.running.run import RunSettings, execute
from methods.cache import kvpress_library as library
from tests.models.small import save

if importlib.util.find_spec("kvpress") is None:  # not imported: its start needs packages that its presses do not
    pytest.skip(f"the extra is not installed: {library.INSTALL}", allow_module_level=True)

PRESSES = {
    "knorm": ("KnormPress", "0.5", "null"),
    "knorm_few": ("KnormPress", "0.8", "null"),
    "random": ("RandomPress", "0.5", "null"),
    "ada": ("AdaKVPress", "0.5", "{press: KeyDiffPress}"),
    "rerotated": ("KeyRerotationPress", "0.5", "{press: StreamingLLMPress}"),
    "decoding": ("CAMPress", "null", "{base_press: KnormPress, compression_interval: 1, target_size: 100}"),
}


def test_shared_equals_alone_for_presses(tmp_path):
    folder = save(tmp_path / "tiny-llama", max_position_embeddings=4096)
    variants = [
        text
        for label, (press, ratio, kwargs) in PRESSES.items()
        for text in (
            f"+method.{label}=${{method.kvpress}}", f"method.{label}.press={press}",
            f"method.{label}.compression_ratio={ratio}", f"method.{label}.kwargs={kwargs}",
        )
    ]  # fmt: skip
    task = ["task=passkey", "task.passkey.lengths=[300,400]", "task.passkey.depths=[0,100]", "task.passkey.trials=1"]
    made = cells(compose([f"model={folder}", "method=[snapkv,kvpress]", "method.snapkv.capacity=64", *variants, *task]))
    assert max(len(group) for group in groups(made, GREEDY)) >= len(PRESSES)
    for share in (True, False):
        settings = RunSettings(tmp_path / str(share), efficiency="off", batch_tokens=2048, share=share)
        assert {o.status for o in execute(made, settings)} == {"done"}
    for cell in made:
        shared, alone = (
            [json.loads(line) for line in (tmp_path / s / "runs" / cell.run_id / "samples.jsonl").open()]
            for s in ("True", "False")
        )
        for row in shared:
            row.pop("shared", None)
        assert shared == alone, cell.method_label
