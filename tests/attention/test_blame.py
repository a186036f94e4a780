"""A number is never scored from logits that are no numbers, and the error says whose they are and where they begin."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.asking.decoding import Decoding
from harness.asking.generation import generate
from harness.asking.likelihood import nll
from harness.asking.requests import respond
from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.contracts.call import Call
from harness.contracts.method import Method
from harness.errors import UserError
from harness.models.load import ModelSpec
from tests.asking.test_loglikelihood import choice, example
from tests.attention.test_proof import PERPLEXITY, rows, run
from tests.models import small

NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Broken(Method):
    """Divides by zero in one layer, from a token on."""

    name = "broken"
    step: int = 0

    def attn_out(self, ctx: Call, a: Tensor) -> Tensor | None:
        return a * NAN if ctx.layer == 1 and ctx.step >= self.step else None


@dataclass(frozen=True, kw_only=True)
class RulesOut(Method):
    """Rules a token out, which is minus infinity and no mistake."""

    name = "rules_out"

    def logits(self, ctx: Call, z: Tensor) -> Tensor:
        z = z.clone()
        z[..., 7] = -torch.inf
        return z


PLACES = {
    "model.embed_tokens.weight": "the embedding",
    "model.layers.1.self_attn.v_proj.weight": "the attention of layer 1",
    "model.layers.2.mlp.up_proj.weight": "the feed-forward part of layer 2",
    "lm_head.weight": "the language head",
}


@pytest.mark.parametrize(("name", "place"), PLACES.items(), ids=lambda x: x.split(".")[-2] if "." in x else "")
def test_a_damaged_model_is_found_when_it_is_loaded(name: str, place: str, tmp_path: Path) -> None:
    folder = small.save(tmp_path / "damaged")
    weights = load_file(folder / "model.safetensors")
    weights[name] = weights[name] * NAN
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError, match=rf"Model 'damaged' computes numbers that are not finite.*first in {place}: .*float32"
    ):
        ModelSpec(path=str(folder), device="cpu").load()


ASKED: dict[str, Callable[[Any, Any], Any]] = {
    "generate": lambda view, attached: generate(view, [[5, 200, 6], [9, 8]], [4, 4], attached),
    "beam": lambda view, attached: generate(view, [[5, 200, 6]], [4], attached, Decoding(search="beam", num_beams=2)),
    "nll": lambda view, attached: nll(view, [[5, 200, 6, 7], [9, 8, 7]], [1, 1], attached),
    "requests": lambda view, attached: respond(view, [example(choice("b"), contexts=("aaaa",))], attached),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_number_that_only_some_prompts_meet_is_the_models(ask: Callable[[Any, Any], Any]) -> None:
    view = small.view()
    view.lm.get_input_embeddings().weight.data[[200, view.encode("a")[0]]] = NAN
    for method in (Method(), RulesOut()):
        with (
            attach(view, method) as attached,
            pytest.raises(UserError, match=r"Model 'tiny-llama'.*first in the embedding"),
        ):
            ask(view, attached)


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_number_that_a_method_makes_is_the_methods(ask: Callable[[Any, Any], Any]) -> None:
    view = small.view()
    with (
        attach(view, Broken()) as attached,
        pytest.raises(UserError, match=r"Method 'broken'.*the attention of layer 1"),
    ):
        ask(view, attached)
    with attach(view, RulesOut()) as attached:
        ask(view, attached)  # minus infinity passes


def test_a_number_that_goes_wrong_in_decode_names_the_token() -> None:
    view = small.view()
    with attach(view, Broken(step=2)) as attached:
        generate(view, [[5, 6]], [2], attached)
        with pytest.raises(UserError, match=r"Method 'broken'.*first in the logits of new token 2"):
            generate(view, [[5, 6]], [4], attached)
        assert generate(view, [[5, 6], [5, 6]], [2, 2], attached)


def test_the_proof_names_it_too() -> None:
    with pytest.raises(UserError, match=r"Method 'broken'.*the attention of layer 1"):
        prove(small.view(), Broken(), torch.tensor([[5, 6, 7]]))


def test_a_cell_never_ends_with_a_score_from_it(tmp_path: Path) -> None:
    folder = small.save(tmp_path / "tiny", max_position_embeddings=4096)
    dense, ours = run(folder, tmp_path / "a", *PERPLEXITY, method=Broken())
    assert (dense.status, ours.status) == ("done", "failed") and "Method 'broken'" in ours.reason
    shutil.copytree(folder, tmp_path / "bad")
    weights = load_file(tmp_path / "bad" / "model.safetensors")
    weights["model.embed_tokens.weight"][small.view().encode("e")] = (
        NAN  # not among the tokens that are tried on loading
    )
    save_file(weights, tmp_path / "bad" / "model.safetensors", metadata={"format": "pt"})
    acting = ("method.power.block_size=8", "method.power.window_blocks=2")
    for outcome in run(tmp_path / "bad", tmp_path / "b", *PERPLEXITY, *acting):
        assert outcome.status == "failed" and not outcome.bug and "Model 'bad'" in outcome.reason
        assert "the embedding" in outcome.reason
    assert rows(tmp_path / "a", dense)
