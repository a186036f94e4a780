"""Rotary embeddings that depend on the length: an answer depends on its own prompt, not on its batch nor on history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.asking.batches import plan_batches
from harness.asking.generation import generate
from harness.asking.likelihood import nll
from harness.models.rotary import Turn
from harness.models.view import View
from tests.attention.test_proof import rows, run
from tests.models import small

TURN = 64
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "short_factor": [1.0, 1.1],
    "long_factor": [3.0, 9.0], "original_max_position_embeddings": TURN,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "longrope": ("phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": TURN}),
    "dynamic": ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": TURN}),
}
SHORT, CROSSING, LONG, LONGER = (list(range(5, 5 + n)) for n in (40, 62, 100, 130))


def view(kind: str) -> View:
    family, changes = MODELS[kind]
    found = small.view(family, **changes)
    found.max_positions = 512
    return found


def plain(found: View, prompt: list[int], new: int) -> list[int]:
    """A new copy of the model, which the library alone runs on this one prompt."""
    with torch.no_grad():
        out = found.model.generate(torch.tensor([prompt]), max_new_tokens=new, do_sample=False, eos_token_id=None)
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", MODELS)
def test_what_ran_before_changes_nothing(kind: str) -> None:
    found = view(kind)
    first = nll(found, [SHORT], [10])
    for other in (LONGER, LONG, SHORT):
        nll(found, [other], [10])
        assert nll(found, [SHORT], [10]) == first
    assert nll(found, [LONG], [10]) == nll(view(kind), [LONG], [10])
    generate(found, [LONGER], [8])
    assert nll(found, [LONG], [10]) == nll(view(kind), [LONG], [10])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("prompt", [SHORT, CROSSING, LONG], ids=["short", "crossing", "long"])
def test_a_prompt_alone_is_answered_as_by_the_library(kind: str, prompt: list[int]) -> None:
    found = view(kind)
    found.model.generation_config.eos_token_id = None
    found.tokenizer.eos_token = None
    found.__dict__.pop("stop_ids", None)
    generate(found, [LONGER], [5])  # history
    assert list(generate(found, [prompt], [6])[0].ids) == plain(view(kind), prompt, 6)


@pytest.mark.parametrize(("kind", "once"), [("longrope", True), ("dynamic", False)])
def test_where_the_frequencies_turn(kind: str, once: bool) -> None:
    assert view(kind).turn == Turn(TURN, once)
    assert small.view("llama").turn is None and small.view("gpt2").turn is None


def test_requests_share_a_batch_only_within_a_regime() -> None:
    lengths, new = [40, 50, 62, 62, 61, 100, 130, 30], [8, 8, 8, 8, 8, 8, 8, 40]
    plans = {once: plan_batches(lengths, new, 10_000, turn=Turn(TURN, once)) for once in (True, False)}
    assert plans[True] == [[6, 5], [2, 3], [4], [1, 0], [7]]  # the answer to 7 would lead the others over the turn
    assert plans[False] == [[6], [5], [2, 3], [4], [1, 0], [7]]
    assert plan_batches(lengths, new, 10_000) == [[6, 5, 2, 3, 4, 1, 0, 7]]


# prompts of 246 (they end before the turn), 266 (their answers cross it), 314 and 392 tokens
TURNS = 268
PASSKEY = ("task=passkey", "task.passkey.depths=[0]", "task.passkey.trials=2", "task.passkey.max_new_tokens=6")
ALL, APART = "task.passkey.lengths=[256,280,320,400]", "task.passkey.lengths=[256,320,400]"
PERPLEXITY = (
    "task=perplexity",
    "task.perplexity.window=300",
    "task.perplexity.stride=120",
    "task.perplexity.max_tokens=800",
)


def saved(kind: str, folder: Path) -> Path:
    """A checkpoint whose frequencies turn at TURNS."""
    family, changes = MODELS[kind]
    if kind == "dynamic":
        return small.save(folder, family, **changes | {"max_position_embeddings": TURNS})
    parameters = LONGROPE | {"original_max_position_embeddings": TURNS}
    longer: dict[str, Any] = {"original_max_position_embeddings": TURNS, "max_position_embeddings": 1024}
    return small.save(folder, family, rope_parameters=parameters, **longer)


@pytest.mark.parametrize("task", [(*PASSKEY, ALL), PERPLEXITY], ids=["passkey", "perplexity"])
@pytest.mark.parametrize("kind", MODELS)
def test_cells_do_not_depend_on_batches(kind: str, task: tuple[str, ...], tmp_path: Path) -> None:
    folder, found = saved(kind, tmp_path / "model"), []
    options = (*task, "method=[]", "model.model.max_positions=1024")
    for budget in (1, 8192):
        (dense,) = run(folder, tmp_path / str(budget), *options, batch_tokens=budget)
        assert dense.status == "done", dense.reason
        found.append(sorted((row["id"], row["text"]) for row in rows(tmp_path / str(budget), dense)))
    for (one, text), (other, same) in zip(*found, strict=True):
        assert one == other
        assert text == same if task[0] == PASSKEY[0] else json.loads(text) == pytest.approx(json.loads(same), abs=1e-4)


def test_methods_side_by_side_meet_the_frequencies_that_each_meets_alone(tmp_path: Path) -> None:
    folder, found = saved("dynamic", tmp_path / "model"), []
    options = (*PASSKEY, ALL, "method=[quest,snapkv]", "method.quest.budget=32", "method.snapkv.capacity=64")
    for share in (True, False):
        outcomes = run(folder, tmp_path / str(share), *options, "model.model.max_positions=1024", share=share)
        assert [o.status for o in outcomes] == ["done"] * 3
        found.append([[(row["id"], row["text"]) for row in rows(tmp_path / str(share), o)] for o in outcomes])
    assert [list(map(sorted, one)) for one in found[:1]] == [list(map(sorted, one)) for one in found[1:]]


def test_a_method_with_a_cache_is_refused_where_the_model_reads_anew(tmp_path: Path) -> None:
    folder = saved("longrope", tmp_path / "model")
    options = (*PASSKEY, "method=[quest]", "method.quest.budget=32")
    _, crossing = run(folder, tmp_path / "a", *options, ALL)
    assert crossing.status == "refused" and f"at {TURNS} tokens it changes its rotary frequencies" in crossing.reason
    _, apart = run(folder, tmp_path / "b", *options, APART)
    assert apart.status == "done", apart.reason
