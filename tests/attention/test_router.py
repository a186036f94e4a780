"""A method may choose experts anew: weights and numbers reach the kernel of every family of experts, and nobody else's do."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.contracts.call import Call
from harness.contracts.method import Method
from harness.errors import NotEngaged, Unsupported
from harness.models.view import View
from tests import tiny

ROUTED = {"gpt_oss": [0, 1, 2], "qwen3_moe": [0, 2]}  # family -> layers with experts
families = pytest.mark.parametrize("family", ROUTED)


@dataclass(frozen=True, kw_only=True)
class Off(Method):
    """Silences experts: nobody takes their place, and the weights of the others grow to the old sum (MoTE, arXiv
    2502.11096).
    """

    name = "off"
    budget_unit = "experts that are silenced"

    experts: tuple[int, ...] = (0, 1)

    def layers(self, view: View) -> list[int]:
        return view.routed_layers

    def router(self, ctx: Call, logits: Tensor, weights: Tensor, experts: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.experts:
            return None
        off = torch.isin(experts, torch.tensor(self.experts))
        kept = weights.masked_fill(off, 0)
        total = kept.sum(-1, keepdim=True)
        return torch.where(total > 0, kept * weights.sum(-1, keepdim=True) / total, 0), experts


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def logits(view: View, method: Method, ids: Tensor, pads: tuple[int, ...], steps: int = 3) -> Tensor:
    """Of a prompt and of `steps` tokens after it."""
    mask = torch.stack([(torch.arange(ids.shape[1]) >= pad).long() for pad in pads])
    places, out, cache, seen = (mask.cumsum(1) - 1).clamp(min=0), [], None, 0
    with attach(view, method):
        for n in (ids.shape[1] - steps, *[1] * steps):
            part = slice(seen, seen + n)
            given = {"attention_mask": mask[:, : seen + n], "position_ids": places[:, part]}
            step = view.model(ids[:, part], past_key_values=cache, use_cache=True, **given)
            cache, seen = step.past_key_values, seen + n
            out.append(step.logits)
    return torch.cat(out, dim=1)


@families
def test_silencing_equals_experts_that_give_nothing(family: str) -> None:
    """All but one of the experts off, beside the library's own layer with the router's choice written by hand."""
    view, ids = tiny.view(family), tiny.ids(20, 2)
    found = logits(view, Off(experts=(1, 2, 3)), ids, (0, 0), 0)
    handles = []
    for i in ROUTED[family]:

        def only_first(module: object, args: object, out: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
            scores, weights, experts = out
            total = weights.sum(-1, keepdim=True)
            return scores, torch.where(experts == 0, total, 0), experts

        handles.append(view.router(i).register_forward_hook(only_first))  # type: ignore[union-attr]
    expected = view.model(ids).logits
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, view.model(ids).logits, atol=1e-2)


@families
def test_other_experts_can_be_forced(family: str) -> None:
    class Last(Off):
        def router(self, ctx: Call, logits: Tensor, weights: Tensor, experts: Tensor) -> tuple[Tensor, Tensor]:
            assert torch.equal(logits.topk(2, -1).indices, experts)
            return weights, logits.topk(2, -1, largest=False).indices

    proof = prove(tiny.view(family), Last(), tiny.ids(20))
    assert proof["layers_touched"] == ROUTED[family] and proof["logits_moved"] > 0.01 and proof["restored"]


@families
def test_it_is_engaged_and_its_identity_is_dense(family: str) -> None:
    view, ids = tiny.view(family), tiny.ids(20)
    proof = prove(view, Off(), ids)
    assert proof["layers_touched"] == ROUTED[family] and proof["density"] == 1 and proof["restored"]
    assert torch.equal(logits(view, Off(experts=()), ids, (0,)), logits(view, Method(), ids, (0,)))
    with pytest.raises(NotEngaged, match="off"):
        prove(view, Off(experts=()), ids)


@families
def test_a_batch_gives_what_each_sample_gives_alone(family: str) -> None:
    view, ids = tiny.view(family), tiny.ids(20, 2)
    together, alone = logits(view, Off(), ids, (0, 6)), logits(view, Off(), ids[1:, 6:], (0,))
    torch.testing.assert_close(together[1:, 6:], alone, rtol=1e-4, atol=1e-4)


@families
def test_the_model_is_restored_after_an_exception(family: str) -> None:
    view, ids = tiny.view(family), tiny.ids(20)
    before = view.model(ids).logits

    class Broken(Off):
        def router(self, ctx: Call, logits: Tensor, weights: Tensor, experts: Tensor) -> None:
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"), attach(view, Broken()):
        view.model(ids)
    assert torch.equal(view.model(ids).logits, before)


def test_a_family_without_experts_is_refused_in_one_paragraph() -> None:
    with (
        pytest.raises(Unsupported, match=r"'off'.*experts.*'llama' has none.*gpt_oss") as caught,
        attach(tiny.view("llama"), Off()),
    ):
        pass
    assert "\n" not in str(caught.value)
