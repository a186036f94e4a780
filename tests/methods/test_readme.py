"""The example of `methods/README.md` works as printed."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from harness.attention.attach import attach
from harness.attention.engaged import prove
from tests import tiny

README = Path(__file__).parents[2] / "methods" / "README.md"


def test_the_example_method_runs_and_reads_what_it_says() -> None:
    code = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)[0]
    space: dict = {"__name__": "doubling"}
    exec(compile(code, str(README), "exec", dont_inherit=True), space)
    method, view, ids = space["Doubling"](first=10, block_size=8), tiny.view("llama"), tiny.ids(60)
    method.validate()
    with torch.no_grad(), attach(view, method) as attached:
        view.model(ids)
        read = attached.report()["pairs_read"]
    assert read == 4 * sum(min(i + 1, 10 * 2**layer) for layer in range(3) for i in range(60))
    assert prove(view, method, ids)["logits_moved"] > 0
    assert method.idle(10) and not method.idle(11)
