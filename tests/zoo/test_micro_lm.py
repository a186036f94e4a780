"""The shipped checkpoint loads offline, carries its own tokenizer and retrieves."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import zoo
from zoo.material.text import words
from zoo.recipes import lm_eval, lm_recipe, lm_tokenizer
from zoo.recipes.lm_rows import Encoder

FOLDER = Path(zoo.__file__).parent / "micro_lm"


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def enc() -> Encoder:
    return Encoder(AutoTokenizer.from_pretrained(FOLDER))


def test_the_shipped_tokenizer_is_the_one_this_code_builds(enc: Encoder) -> None:
    assert enc.tokenizer.get_vocab() == lm_tokenizer.build().get_vocab()


def test_it_is_a_plain_llama_of_the_stated_size(model: LlamaForCausalLM) -> None:
    assert type(model) is LlamaForCausalLM
    assert sum(weight.numel() for weight in model.parameters()) <= 4_000_000
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 10_000_000


@pytest.mark.parametrize("task", ["passkey noise", "passkey essay", "niah 1 key essay"])
def test_it_retrieves_at_256_tokens(model: LlamaForCausalLM, enc: Encoder, task: str) -> None:
    right, asked = lm_eval.accuracy(model, enc, task, 256, 8)
    assert asked == 8
    assert right >= 6


def test_a_narrow_window_loses_the_passkey(model: LlamaForCausalLM, enc: Encoder) -> None:
    right, asked = lm_eval.windowed(model, enc, "passkey essay", 256, 8, window=16)
    assert asked == 8
    assert right == 0


def test_the_log_is_that_of_the_whole_recipe() -> None:
    rows = [json.loads(line) for line in (FOLDER / "training_log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)
    assert steps[-1] == lm_recipe.total_steps()


def test_the_card_belongs_to_these_weights_and_this_data() -> None:
    """Fails when templates, word lists, tokenizer or stages change: then train again and write a new card."""
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    weights = hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()[:16]
    for digest in (weights, lm_recipe.data_digest(seed=1), words.digest()):
        assert f"`{digest}`" in card


@pytest.mark.parametrize(("right", "n", "low", "high"), [(0, 200, 0.0, 0.0188), (200, 200, 0.9812, 1.0)])
def test_wilson_intervals_at_the_ends(right: int, n: int, low: float, high: float) -> None:
    found = lm_eval.wilson(right, n)
    assert found[0] == pytest.approx(low, abs=1e-3)
    assert found[1] == pytest.approx(high, abs=1e-3)
