"""The recipe: its schedule, its loss, and a run of two steps from the command line to a loadable folder."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from zoo.recipes import lm_data, lm_start, lm_train


def test_stages_follow_each_other_and_end() -> None:
    first, second = lm_train.STAGES[:2]
    assert lm_train.stage_at(0) == (first, 0.0)
    assert lm_train.stage_at(first.steps) == (second, 0.0)
    with pytest.raises(IndexError):
        lm_train.stage_at(lm_train.total_steps())


def test_the_learning_rate_has_no_jumps_and_ends_low() -> None:
    rates = [lm_train.lr_at(step) for step in range(lm_train.total_steps())]
    peak = max(rates)
    assert all(abs(a - b) < 0.02 * peak for a, b in pairwise(rates[lm_train.WARMUP :]))
    assert rates[-1] < 0.05 * peak


def test_padding_does_not_change_the_loss() -> None:
    model = lm_start.fresh(lm_start.config(64), seed=0).eval()
    rows = [lm_data.Row([0, 5, 6, 7, 1], [0, 0, 3.0, 1.0, 1.0]), lm_data.Row([0, 9, 8], [0, 0.3, 3.0])]
    with torch.no_grad():
        both, numbers = lm_train.weighted_loss(model, *lm_train.collate(rows, pad=2), first=3.0)
        alone = [lm_train.weighted_loss(model, *lm_train.collate([row], pad=2), first=3.0)[0] for row in rows]
    total = [sum(row.weights) for row in rows]
    expected = (alone[0] * total[0] + alone[1] * total[1]) / sum(total)
    assert float(both) == pytest.approx(float(expected), rel=1e-5)
    assert set(numbers) == {"token", "first"}


def test_two_steps_leave_a_folder_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = lm_train.Stage(2, (128,), 256, (1e-3, 1e-3), (0.5, 0.5), {"passkey": 1.0})
    monkeypatch.setattr(lm_train, "STAGES", (stage,))
    monkeypatch.setattr(lm_train, "REPORT", ("passkey noise",))
    monkeypatch.setattr(sys, "argv", ["lm_train", "--seed", "0", "--out", str(tmp_path)])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    lm_train.main()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert model.config.vocab_size >= len(tokenizer)
    assert (tmp_path / "training_log.jsonl").exists()
    assert not (tmp_path / "state.pt").exists()
