"""The shipped checkpoint loads offline, carries its own tokenizer and retrieves."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import zoo
from tests.zoo.measured import measured
from zoo.material.text import words
from zoo.recipes import lm_recipe, lm_tokenizer
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


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], float]:
    """(method, task) -> share of right answers at 256 tokens."""
    found = measured(
        tmp_path_factory.mktemp("results"), "model=micro-lm", "method=[dense,sliding]", "task=[passkey,ruler]",
        "method.sliding.block_size=16", "method.sliding.window_blocks=1", "task.passkey.lengths=[256]",
        "task.passkey.filler=essay", "task.passkey.depths=[0,20,40,60]", "task.passkey.trials=2",
        "task.ruler.tasks=[niah_single_2]", "task.ruler.lengths=[256]", "task.ruler.samples=8",
    )  # fmt: skip
    return {
        (method, task): m["values"]["score" if task == "ruler" else "accuracy"]["value"]
        for (_, method, task), m in found.items()
    }


@pytest.mark.parametrize("task", ["passkey", "ruler"])
def test_it_retrieves_at_256_tokens(figures: dict[tuple[str, str], float], task: str) -> None:
    assert figures["dense", task] >= 0.75


@pytest.mark.parametrize("task", ["passkey", "ruler"])
def test_a_narrow_window_loses_what_was_hidden(figures: dict[tuple[str, str], float], task: str) -> None:
    assert figures["sliding", task] <= 0.15


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
