"""Engaged on what is scored: rows that nobody scores prove nothing, and what is proven is what the samples get."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from harness.asking.likelihood import nll
from harness.asking.requests import log_likelihoods, respond
from harness.attention import idle
from harness.attention.attach import attach
from harness.config.compose import compose
from harness.contracts.call import Call, Request
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.models.view import View
from harness.plan.cells import cells
from harness.running.run import RunSettings, execute
from tests import tiny
from tests.asking.test_loglikelihood import choice, example
from tests.matrix import CASES, Case
from tests.models import small


@dataclass(frozen=True, kw_only=True)
class Stretched(Method):
    """Reads every text at twice the distances."""

    name = "stretched"

    def begin(self, request: Request) -> dict[str, Any]:
        return {"positions": 2 * (request.inputs.mask.cumsum(1) - 1).clamp(min=0)}

    def layer_out(self, ctx: Call, x: Tensor) -> Tensor:
        return x * 1.0


@dataclass(frozen=True, kw_only=True)
class Sharper(Method):
    """Doubles the scores of the rows that predict what is new."""

    name = "sharper"

    def scores(self, ctx: Call, s: Tensor) -> Tensor:
        return s * 2


@dataclass(frozen=True, kw_only=True)
class Unscored(Method):
    """Changes the last row of a text alone, which predicts nothing that is scored in it."""

    name = "unscored"

    def layer_out(self, ctx: Call, x: Tensor) -> Tensor:
        return torch.cat((x[:, :-1], x[:, -1:] + 1), dim=1)


@dataclass(frozen=True, kw_only=True)
class Rewriting(Method):
    """Asks the model and puts its answer before the prompt."""

    name = "rewriting"
    heard: ClassVar[list[tuple[str, ...]]] = []  # what it was told, over all its requests

    def transform(self, view: Any, draft: Draft, ask: Any) -> Draft:
        self.heard.append((draft.id, ask(draft, 4), ask(draft, 4, Method())))
        return Draft(draft.id, f"{self.heard[-1][1]} {draft.prompt}")

    def layer_out(self, ctx: Call, x: Tensor) -> Tensor:
        return -x


ROWS = [[5, 9, 70, 33, 8, 41, 90, 12], [7, 8, 60, 44]]
SCORED = [5, 2]


def stepwise(method: Method, row: list[int], n_scored: int) -> list[float]:
    """The same losses from a prompt and decode steps, in which a method edits the last row each time."""
    view, start = small.view(), len(row) - n_scored
    losses, given, cache = [], torch.tensor([row[:start]]), None
    with torch.no_grad(), attach(view, method):
        for token in row[start:]:
            out = view.model(given, past_key_values=cache, use_cache=True)
            losses.append(-float(out.logits[0, -1].log_softmax(-1)[token]))
            cache, given = out.past_key_values, torch.tensor([[token]])
    return losses


def test_positions_of_a_method_are_used_where_texts_are_scored() -> None:
    view = small.view()
    with torch.no_grad(), attach(view, Stretched()) as attached:
        ours = nll(view, ROWS, SCORED, attached)
    for row, n, losses in zip(ROWS, SCORED, ours, strict=True):
        places = 2 * torch.arange(len(row))[None]
        with torch.no_grad():
            logits = view.model(torch.tensor([row]), position_ids=places).logits[0].log_softmax(-1)
        expected = [-float(logits[t - 1, row[t]]) for t in range(len(row) - n, len(row))]
        assert losses == pytest.approx(expected, abs=1e-5)


def test_a_text_scored_in_one_pass_equals_the_same_text_step_by_step() -> None:
    view = small.view()
    with torch.no_grad(), attach(view, Sharper()) as attached:
        batch = nll(view, ROWS, SCORED, attached)
        alone = [nll(view, [row], [n], attached)[0] for row, n in zip(ROWS, SCORED, strict=True)]
    for row, n, together, single in zip(ROWS, SCORED, batch, alone, strict=True):
        assert together == pytest.approx(single, abs=1e-5)
        assert together == pytest.approx(stepwise(Sharper(), row, n), abs=1e-5)
        assert together != pytest.approx(nll(view, [row], [n])[0], abs=1e-3)


@pytest.mark.parametrize("method", [Stretched(), Sharper()], ids=lambda m: m.name)
def test_requests_follow_the_method_alone_and_in_a_batch(method: Method) -> None:
    view = small.view()
    asked = [example(choice("bcd"), contexts=("aaaaaaa",)), example(choice("b"), contexts=("hallo du da",))]
    dense = [float(log_likelihoods(view, one, None)) for one in asked]
    with attach(view, method) as attached:
        alone = [float(log_likelihoods(view, one, attached)) for one in asked]
        together = [row.value[0][0] for row in respond(view, asked, attached)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert all(abs(a - d) > 1e-3 for a, d in zip(alone, dense, strict=True))


# -- cells ------------------------------------------------------------------------------------------------------------


def run(folder: Path, root: Path, *overrides: str, method: Method | None = None, **settings: Any) -> Any:
    """Outcomes of a plan on a tiny model; `method` takes the place of the plan's other than dense."""
    from dataclasses import replace

    planned = cells(compose([f"model={folder}", *overrides]))
    planned = [replace(c, method=method) if method and c.method_label != "dense" else c for c in planned]
    return execute(planned, RunSettings(root, efficiency="off", **settings))


def rows(root: Path, outcome: Any) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (root / "runs" / outcome.cell.run_id / "samples.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.save(tmp_path_factory.mktemp("model") / "tiny", max_position_embeddings=4096)


PERPLEXITY = ("task=perplexity", "task.perplexity.window=64", "task.perplexity.stride=32", "limit=2", "method=[power]")


def test_a_method_that_moves_only_what_is_not_scored_fails_its_cell(folder: Path, tmp_path: Path) -> None:
    dense, ours = run(folder, tmp_path, *PERPLEXITY, method=Unscored())
    assert dense.status == "done" and ours.status == "failed"
    assert "no log-likelihood that is scored moved" in ours.reason


@pytest.mark.parametrize("method", [Stretched(), Sharper()], ids=lambda m: m.name)
def test_a_method_that_is_proven_engaged_moves_every_sample(folder: Path, tmp_path: Path, method: Method) -> None:
    dense, ours = run(folder, tmp_path, *PERPLEXITY, method=method)
    assert [dense.status, ours.status] == ["done", "done"], ours.reason
    sums = [[row["metrics"]["nll_sum"] for row in rows(tmp_path, outcome)] for outcome in (dense, ours)]
    assert all(not math.isclose(a, b, abs_tol=1e-3) for a, b in zip(*sums, strict=True))


def test_a_method_that_rewrites_prompts_is_refused_where_texts_are_fixed(folder: Path, tmp_path: Path) -> None:
    _, ours = run(folder, tmp_path, *PERPLEXITY, method=Rewriting())
    assert ours.status == "refused" and "token by token" in ours.reason


def test_what_transform_is_told_is_dense_in_proof_and_samples(folder: Path, tmp_path: Path) -> None:
    Rewriting.heard.clear()
    lengths = ("task=passkey", "task.passkey.lengths=[256]", "task.passkey.depths=[0]", "task.passkey.trials=1")
    _, ours = run(folder, tmp_path, *lengths, "method=[power]", method=Rewriting())
    assert ours.status == "done", ours.reason
    assert len(Rewriting.heard) >= 2 and len(set(Rewriting.heard)) == 1  # the proof's prompt is the only sample
    answer, probed = Rewriting.heard[0][1:]
    assert answer == probed


# -- samples that are too short ---------------------------------------------------------------------------------------


@cache
def exact() -> View:
    """In float64, so that another order of the same sums moves nothing."""
    view = tiny.fresh_view("llama")
    view.model.double()
    return view


def moved(method: Method, prompt: int, new: int) -> float:
    """How far the method moves the numbers by which `new` tokens after `prompt` are chosen."""
    from harness.attention.engaged import generated
    from harness.models.inputs import of_ids

    view = exact()
    look = generated(view, of_ids(tiny.ids(prompt)), None, new - 1)
    dense = look(None)
    with attach(view, method) as attached:
        return float((look(attached) - dense).abs().max())


@pytest.mark.parametrize("new", [1, 2, 5])
@pytest.mark.parametrize("case", [c for c in CASES if c.acts.name != "dense" and "llama" in c.families], ids=str)
@torch.no_grad()
def test_idle_is_exact_to_the_token(case: Case, new: int) -> None:
    """Around the length where the method begins to act, and at both ends."""
    lengths = range(getattr(case.acts, "window", 0) + 5, 34)
    told = {n: bool(idle.reason(case.acts, n, new)) for n in lengths}
    turns = {n for n in lengths[1:] if told[n] != told[n - 1]}
    looked = {lengths[0], lengths[-1]} | turns | {n - 1 for n in turns}
    assert {n: told[n] for n in looked} == {n: moved(case.acts, n, new) <= 1e-6 for n in looked}
    assert not told[33] or (new == 1 and case.acts.prefill_is_dense)


def test_too_short_samples_are_marked_counted_and_told(folder: Path, tmp_path: Path) -> None:
    lengths = ("task=passkey", "task.passkey.lengths=[256,512]", "task.passkey.depths=[0]", "task.passkey.trials=3")
    _, ours = run(folder, tmp_path, *lengths, "method=[snapkv]", "method.snapkv.capacity=300", "method.snapkv.window=8")
    assert ours.status == "done", ours.reason
    assert [row.get("idle", False) for row in rows(tmp_path, ours)] == [False] * 3 + [True] * 3
    metrics = json.loads((tmp_path / "runs" / ours.cell.run_id / "metrics.json").read_text())
    assert metrics["n_idle"] == 3
    assert {g["by"]["length"]: g["n_idle"] for g in metrics["groups"] if list(g["by"]) == ["length"]} == {
        256: 3,
        512: 0,
    }
    _, alone = run(
        folder,
        tmp_path / "short",
        *lengths[:1],
        "task.passkey.lengths=[256]",
        "method=[snapkv]",
        "method.snapkv.capacity=300",
    )
    assert alone.status == "failed" and "covers the whole prompt" in alone.reason


def test_one_token_from_the_prompt_is_denses_for_a_method_that_acts_later() -> None:
    snap = next(c.acts for c in CASES if c.acts.name == "snapkv")
    assert "only after the prompt" in idle.reason(snap, 500, 1) and not idle.reason(snap, 500, 2)
    assert idle.equals_dense(snap, 500, 9, {"changed": 0.0}) and not idle.equals_dense(snap, 500, 9, {"changed": 0.5})
    assert not idle.equals_dense(Method(), 500, 1, {"changed": 0.0})


def test_a_sample_within_the_window_of_a_sliding_model_is_denses(tmp_path: Path) -> None:
    folder = small.save(tmp_path / "m", "mistral", sliding_window=264, max_position_embeddings=1024)
    lengths = ("task=passkey", "task.passkey.lengths=[256,512]", "task.passkey.depths=[0]", "task.passkey.trials=2")
    method = (
        "method=[streaming]",
        "method.streaming.sinks=0",
        "method.streaming.recent=300",
        "method.streaming.block_size=16",
    )
    _, ours = run(folder, tmp_path / "a", *lengths, *method)
    assert ours.status == "failed" and "slide over 264 keys anyway" in ours.reason
