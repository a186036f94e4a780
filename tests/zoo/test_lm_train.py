"""The recipe: its schedule, its loss, and a run of two steps from the command line to a loadable folder."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from zoo.recipes import lm_recipe, lm_start, lm_train
from zoo.recipes.lm_rows import Row


def test_stages_follow_each_other_and_end() -> None:
    first, second = lm_recipe.STAGES[:2]
    assert lm_recipe.stage_at(0) == (first, 0.0)
    assert lm_recipe.stage_at(first.steps) == (second, 0.0)
    with pytest.raises(IndexError):
        lm_recipe.stage_at(lm_recipe.total_steps())


def test_the_learning_rate_has_no_jumps_and_ends_low() -> None:
    rates = [lm_recipe.lr_at(step) for step in range(lm_recipe.total_steps())]
    peak = max(rates)
    assert all(abs(a - b) < 0.02 * peak for a, b in pairwise(rates[lm_recipe.WARMUP :]))
    assert rates[-1] < 0.05 * peak


def test_padding_does_not_change_the_loss() -> None:
    model = lm_start.fresh(lm_start.config(64), seed=0).eval()
    rows = [Row([0, 5, 6, 7, 1], [0, 0, 3.0, 1.0, 1.0]), Row([0, 9, 8], [0, 0.3, 3.0])]
    with torch.no_grad():
        both, numbers = lm_recipe.weighted_loss(model, *lm_recipe.collate(rows, pad=2), first=3.0)
        alone = [lm_recipe.weighted_loss(model, *lm_recipe.collate([row], pad=2), first=3.0)[0] for row in rows]
    total = [sum(row.weights) for row in rows]
    expected = (alone[0] * total[0] + alone[1] * total[1]) / sum(total)
    assert float(both) == pytest.approx(float(expected), rel=1e-5)
    assert set(numbers) == {"token", "first"}


def test_two_steps_leave_a_folder_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = lm_recipe.Stage(2, (128,), 256, (1e-3, 1e-3), (0.5, 0.5), {"passkey": 1.0})
    monkeypatch.setattr(lm_recipe, "REPORT", ("passkey noise",))
    out = tmp_path / "out"
    assert lm_train.make(lm_recipe.MicroLM(seed=0, stages=(stage,)), out, tmp_path / "results") == 0
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.config.vocab_size >= len(tokenizer)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    rows = [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 2 and {"passkey noise 128", "validation"} <= set(rows[1])


def test_the_command_line_makes_the_recipe_of_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(lm_train, "make", lambda *args: made.append(args) or 0)
    monkeypatch.setattr(sys, "argv", ["lm_train", "--seed", "3", "--out", str(tmp_path)])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    assert lm_train.main() == 0
    assert made == [(lm_recipe.MicroLM(seed=3), tmp_path, Path("results"))]
