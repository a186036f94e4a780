"""Engaged or error (design law 1): every way of doing nothing is named."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from harness.attention.engaged import prove
from harness.contracts.call import Call
from harness.contracts.method import Method
from harness.errors import NotEngaged
from methods.dense import Dense
from methods.patterns.power import PowerAttention
from methods.selection.quest import Quest
from tests import tiny


def test_dense_passes_without_evidence() -> None:
    assert prove(tiny.view("llama"), Dense(), tiny.ids(20))["restored"]


def test_the_evidence_is_measured() -> None:
    proof = prove(tiny.view("llama"), PowerAttention(block_size=8, window_blocks=1), tiny.ids(100), steps=3)
    assert proof["layers_touched"] == [0, 1, 2]
    assert 0 < proof["density"] < 1 and 0 < proof["density_decode"] < 1 and proof["logits_moved"] > 0


def test_a_budget_that_covers_everything_is_named_with_its_key() -> None:
    with pytest.raises(NotEngaged, match=r"cover the whole context of 482 tokens; lower method.quest.budget"):
        prove(tiny.view("llama"), Quest(budget=1024), tiny.ids(480))


def _remedy(method, n: int = 400) -> str:
    return method.idle(n).partition("; ")[2]


def test_the_remedy_names_the_option_that_was_too_large_and_no_other() -> None:
    from methods.cache.h2o import HeavyHitters
    from methods.cache.streaming_kv import StreamingKV
    from methods.patterns.dilated import DilatedWindow
    from methods.patterns.longnet import LongNet
    from methods.patterns.streaming import StreamingMask

    power = PowerAttention(block_size=16, window_blocks=100_000)
    assert _remedy(power) == "lower method.power.window_blocks, or use longer prompts"
    assert (
        _remedy(PowerAttention(block_size=16, sink_blocks=100_000))
        == "lower method.power.sink_blocks, or use longer prompts"
    )
    assert _remedy(PowerAttention(block_size=512)) == "lower method.power.block_size, or use longer prompts"
    both = PowerAttention(block_size=16, window_blocks=100_000, sink_blocks=100_000)
    assert "method.power.window_blocks and method.power.sink_blocks" in _remedy(both)
    assert _remedy(DilatedWindow(block_size=16, span_blocks=99, dilation=0)).startswith(
        "lower method.dilated.span_blocks"
    )
    for method, name in ((StreamingMask, "streaming"), (StreamingKV, "streaming_kv")):
        assert _remedy(method(sinks=100_000, recent=8)) == f"lower method.{name}.sinks, or use longer prompts"
        assert _remedy(method(sinks=4, recent=100_000)) == f"lower method.{name}.recent, or use longer prompts"
        assert "recent and" in _remedy(method(sinks=100_000, recent=100_000))
        assert not method(sinks=4, recent=8).idle(400)
    assert (
        _remedy(LongNet(block_size=16, widths=(1024,), rates=(1,)))
        == "lower method.longnet.widths, or use longer prompts"
    )
    assert _remedy(Quest(page=65536, budget=64)) == "lower method.quest.page, or use longer prompts"
    assert _remedy(HeavyHitters(heavy=500, recent=4)).startswith("lower method.h2o.heavy, ")


def test_what_arithmetic_tells_is_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    view = tiny.view("llama")
    monkeypatch.setattr(view.lm, "forward", None)  # whoever calls it fails otherwise
    with pytest.raises(NotEngaged, match=r"lower method\.power\.block_size"):
        prove(view, PowerAttention(block_size=65536), tiny.ids(100))


def test_a_decode_method_on_a_task_without_decode_is_named() -> None:
    with pytest.raises(NotEngaged, match="acts only after the prompt"):
        prove(tiny.view("llama"), Quest(page=4, budget=12, dense_layers=1), tiny.ids(100), steps=0)
    proof = prove(tiny.view("llama"), PowerAttention(block_size=8, window_blocks=1), tiny.ids(100), steps=0)
    assert proof["density_decode"] is None and proof["logits_moved"] > 0


def test_a_sliding_model_that_sees_less_than_the_budget_is_named() -> None:
    method = PowerAttention(block_size=16, window_blocks=3)
    assert not method.idle(202)
    with pytest.raises(NotEngaged, match=r"3 of 3 layers slide over 32 keys"):
        prove(tiny.view("mistral"), method, tiny.ids(200))


@dataclass(frozen=True, kw_only=True)
class HalfAsleep(Method):
    """Says it acts everywhere and acts in one layer."""

    name = "half_asleep"

    def layer_out(self, ctx: Call, x: Tensor) -> Tensor | None:
        return x + 1 if ctx.layer == 0 else None


def test_layers_that_were_not_touched_are_listed() -> None:
    with pytest.raises(NotEngaged, match=r"did not act in layers 1\.\.2 of 3"):
        prove(tiny.view("llama"), HalfAsleep(), tiny.ids(30))


@dataclass(frozen=True, kw_only=True)
class Vandal(Method):
    """Changes a weight for good."""

    name = "vandal"

    def layer_out(self, ctx: Call, x: Tensor) -> Tensor:
        next(iter(ctx.view.model.parameters())).data[5:].mul_(1.01)
        return x


def test_a_method_that_leaves_traces_is_caught() -> None:
    with pytest.raises(NotEngaged, match="left traces"):
        prove(tiny.fresh_view("llama"), Vandal(), tiny.ids(30))


def test_edits_that_change_nothing_are_caught() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Same(Method):
        name = "same"

        def layer_out(self, ctx: Call, x: Tensor) -> Tensor:
            return x * torch.ones(())

    with pytest.raises(NotEngaged, match="no logit moved"):
        prove(tiny.view("llama"), Same(), tiny.ids(30))
