"""A closed form on the output equals the same edit of an explicit softmax, and the log-sum-exp that it takes is that of the
model: grouped heads, windows, sink logits, soft caps, padding, prompts in pieces, decode steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.attention import edited_rows
from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.attention.log_sum_exp import log_sum_exp
from harness.contracts.call import Call
from harness.contracts.method import Method
from harness.contracts.probe import Probe
from harness.errors import NotEngaged, Unsupported
from harness.models.view import View
from tests import tiny

FAMILIES = ("llama", "mistral", "gemma3", "gpt_oss")
KEY = 3  # the text's fourth token


@dataclass(frozen=True, kw_only=True)
class Reweigh(Method):
    """The weight of one key of a text times `factor`, in closed form: the rest of the row gives way."""

    name = "reweigh"
    query_rows = "all"
    prefix_safe = True
    budget_unit = "what the weight is multiplied by"

    factor: float = 3.0

    def edit_output(
        self, ctx: Call, out: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Callable[[], Tensor]
    ) -> Tensor | None:
        if self.factor == 1:
            return None
        batch, group = len(out), q.shape[1] // k.shape[1]
        columns = (ctx.n_pad + KEY).view(batch, 1, 1)  # of the first tokens of a text, where no cache slides
        column = columns[..., None].expand(batch, k.shape[1], 1, k.shape[-1])
        assert ctx.visible is not None
        key, value = (x.gather(2, column).repeat_interleave(group, 1) for x in (k, v))
        weight = (ctx.scaling * (q * key).sum(-1) - lse()).exp() * ctx.visible(slice(None), columns)[..., 0]
        more = (self.factor - 1) * weight[..., None]
        return (out + more * value) / (1 + more)


@dataclass(frozen=True, kw_only=True)
class Explicit(Method):
    """The same on the weights themselves."""

    name = "explicit"
    query_rows = "all"

    factor: float = 3.0

    def probs(self, ctx: Call, a: Tensor) -> Tensor:
        one = torch.arange(a.shape[-1]) == (ctx.n_pad + KEY)[:, None, None, None]
        more = (self.factor - 1) * torch.where(one, a, 0)
        return (a + more) / (1 + more.sum(-1, keepdim=True))


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def exact(family: str) -> tuple[View, dict[str, float]]:
    """A model in float64 and how near numbers must be; experts of gpt-oss have no kernel for it."""
    if family == "gpt_oss":
        return tiny.view(family), {"rtol": 1e-4, "atol": 1e-4}
    view = tiny.fresh_view(family)
    view.model.double()
    return view, {"rtol": 1e-6, "atol": 1e-6}


def logits(view: View, method: Method, ids: Tensor, pieces: tuple[int, ...], pads: tuple[int, ...] = ()) -> Tensor:
    """Of every position, read in `pieces`, with left padding."""
    mask = torch.stack([(torch.arange(ids.shape[1]) >= pad).long() for pad in pads or [0] * len(ids)])
    out, cache, seen = [], None, 0
    with attach(view, method) as attached:
        cache = attached.new_cache()
        for n in pieces:
            places = {
                "attention_mask": mask[:, : seen + n],
                "position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, seen : seen + n],
            }
            given: dict[str, Any] = places if pads else {}
            step = view.model(ids[:, seen : seen + n], past_key_values=cache, use_cache=True, **given)
            cache, seen = step.past_key_values, seen + n
            out.append(step.logits)
    return torch.cat(out, dim=1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pieces", [(24,), (20, 1, 1, 1, 1), (12, 12)])
def test_the_closed_form_equals_the_edited_softmax(family: str, pieces: tuple[int, ...]) -> None:
    (view, near), ids, pads = exact(family), tiny.ids(24, 2), (0, 7)
    closed, explicit = (logits(view, method, ids, pieces, pads) for method in (Reweigh(), Explicit()))
    plain = logits(view, Method(), ids, pieces, pads)
    assert torch.equal(closed[1, :7].isnan(), torch.zeros_like(closed[1, :7], dtype=torch.bool))
    for b, pad in enumerate(pads):
        torch.testing.assert_close(closed[b, pad:], explicit[b, pad:], **near)
        assert not torch.allclose(closed[b, pad + KEY :], plain[b, pad + KEY :], atol=1e-2)


def test_a_key_outside_the_window_has_no_weight_to_change() -> None:
    (view, near), ids = exact("mistral"), tiny.ids(tiny.WINDOW + KEY + 1)
    closed, explicit = (logits(view, method, ids, (ids.shape[1],)) for method in (Reweigh(), Explicit()))
    torch.testing.assert_close(closed, explicit, **near)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_what_each_sample_gives_alone(family: str) -> None:
    view, ids = tiny.view(family), tiny.ids(24, 2)
    together = logits(view, Reweigh(), ids, (20, 1, 1, 1, 1), (0, 7))
    alone = logits(view, Reweigh(), ids[1:, 7:], (13, 1, 1, 1, 1))
    torch.testing.assert_close(together[1:, 7:], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_engaged_and_its_identity_is_dense(family: str) -> None:
    view, ids = tiny.view(family), tiny.ids(24)
    proof = prove(view, Reweigh(), ids)
    assert (
        proof["layers_touched"] == [0, 1, 2] and proof["restored"] and proof["changed"] == 1 and proof["density"] == 1
    )
    assert torch.equal(logits(view, Reweigh(factor=1), ids, (24,)), logits(view, Method(), ids, (24,)))
    with pytest.raises(NotEngaged, match="reweigh"):
        prove(view, Reweigh(factor=1), ids)


def test_a_method_that_edits_scores_or_weights_too_is_refused_and_a_probe_may_look_at_both() -> None:
    class Both(Reweigh):
        def probs(self, ctx: Call, a: Tensor) -> Tensor | None:
            return None

    class All(Both):
        def scores(self, ctx: Call, s: Tensor) -> Tensor | None:
            return None

    class Looks(Probe):
        name = "looks"
        query_rows = "all"

        def probs(self, ctx: Call, a: Tensor) -> None:
            seen.append(a.max())

        def edit_output(self, ctx: Call, out: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Any) -> None:
            seen.append(lse().max())

    view, ids, seen = tiny.view("llama"), tiny.ids(24), []
    for method, hooks in ((Both(), "probs"), (All(), "probs and scores")):
        with pytest.raises(Unsupported, match=f"'reweigh' overrides edit_output and {hooks}: the log-sum-exp"):
            logits(view, method, ids, (24,))
    assert torch.allclose(logits(view, Looks(), ids, (24,)), logits(view, Method(), ids, (24,)), atol=1e-6)
    assert len(seen) == 6


def test_rows_are_those_that_the_method_declares() -> None:
    seen: list[tuple[int, ...]] = []

    class Last(Reweigh):
        query_rows = "last"

        def edit_output(self, ctx: Call, out: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Any) -> Tensor | None:
            seen.append((*out.shape[2:3], *q.shape[2:3], *lse().shape[2:]))
            return super().edit_output(ctx, out, q, k, v, lse)

    view, ids = tiny.view("llama"), tiny.ids(24)
    last, plain = logits(view, Last(), ids, (24,)), logits(view, Method(), ids, (24,))
    assert torch.equal(last[:, :-1], plain[:, :-1]) and not torch.equal(last[:, -1], plain[:, -1])
    assert seen == [(1, 1, 1)] * 3


@pytest.mark.parametrize("limit", [edited_rows.LIMIT, 1])
@pytest.mark.parametrize("kv_heads", [6, 2, 1])
def test_the_log_sum_exp_in_pieces_equals_the_explicit_one(kv_heads: int, limit: int, monkeypatch) -> None:
    monkeypatch.setattr("harness.attention.log_sum_exp.LIMIT", limit)
    draw = torch.Generator().manual_seed(0)
    q, k, sinks = (torch.randn(*shape, generator=draw).double() for shape in ((2, 6, 9, 8), (2, kv_heads, 12, 8), (6,)))
    shown = torch.rand(2, 1, 9, 12, generator=draw) < 0.6
    shown[..., -1] = True
    s = q @ k.repeat_interleave(6 // kv_heads, 1).transpose(-1, -2) * 0.4
    s = (2.5 * torch.tanh(s / 2.5)).masked_fill(~shown, float("-inf"))
    with_sinks = torch.cat((s, sinks[None, :, None, None].expand(2, 6, 9, 1)), -1).logsumexp(-1)
    for given, expected in ((None, s.logsumexp(-1)), (sinks, with_sinks)):
        found = log_sum_exp(q, k, lambda rows: shown[:, :, rows], 0.4, given, 2.5)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
