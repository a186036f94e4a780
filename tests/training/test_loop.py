"""The optimisation loop resumes exactly and logs what it did."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.training import loop


def run(out: Path, steps: int) -> nn.Linear:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (model(x) - x.sum(1, keepdim=True)).pow(2).mean(), {"seen": float(step)}

    settings = loop.Settings(steps, log_every=5, save_every=5)
    loop.fit(model, settings, loss_at, lambda step: loop.warmup_then(step, 0.05, 3), out)
    return model


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 20)
    run(tmp_path / "parts", 10)
    parts = run(tmp_path / "parts", 20)
    assert torch.equal(whole.weight, parts.weight)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert steps == [5, 10, 15, 20]


def test_it_learns(tmp_path: Path) -> None:
    run(tmp_path, 100)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"] / 4
    assert rows[0]["seen"] == 2.0  # the mean of steps 0..4


def test_a_broken_gradient_stops_the_run(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="step 0"):
        loop.fit(
            model,
            loop.Settings(1),
            lambda step: ((model.weight * float("nan")).sum(), {}),
            lambda step: 0.1,
            tmp_path,
        )
