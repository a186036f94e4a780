"""Attaching: what is installed, what is counted, what is refused, and that nothing is left behind."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from transformers import StaticCache

from harness.asking.generation import generate
from harness.attention.attach import attach
from harness.attention.doors import dispatch
from harness.contracts.call import Blocks, Call, Request
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.errors import UserError
from harness.models.inputs import Inputs, collate, sample_of
from methods.cache.snapkv import SnapKV
from methods.contrast.icd import ICD
from methods.dense import Dense
from methods.patterns.power import PowerAttention
from methods.patterns.sliding import SlidingWindow
from methods.selection.quest import Quest
from tests import tiny, tiny_vlm

POWER = PowerAttention(block_size=4, window_blocks=2)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@dataclass(frozen=True, kw_only=True)
class Idle(Method):
    """Installs the dispatcher and always lets the model's own attention run."""

    name = "idle"

    def pattern(self, ctx: Call, q: Tensor, k: Tensor) -> Blocks | None:
        return None


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_untouched_calls_are_bit_identical(family: str) -> None:
    view, ids = tiny.view(family), tiny.ids(70, 2)
    mask = torch.ones_like(ids)
    mask[0, :20] = 0
    before = view.model(ids, attention_mask=mask).logits
    tokens = view.model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    with attach(view, Idle()):
        assert torch.equal(view.model(ids, attention_mask=mask).logits, before)
        again = view.model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    assert torch.equal(again, tokens)
    assert torch.equal(view.model(ids, attention_mask=mask).logits, before)


def test_the_name_takes_no_special_path_in_the_library() -> None:
    assert not any(part in dispatch.NAME for part in ("/", "|", "flash", "sdpa", "flex", "paged"))


def test_dense_installs_nothing() -> None:
    view = tiny.view("llama")
    setting, hooks = view.attn_setting(), len(view.layers[0]._forward_pre_hooks)
    with attach(view, Dense()) as attached:
        assert view.attn_setting() == setting and len(view.layers[0]._forward_pre_hooks) == hooks
        assert attached.new_cache() is None and attached.report()["layers_touched"] == []


def test_detaching_removes_every_hook() -> None:
    view = tiny.view("llama")
    modules = [*view.layers, *(view.o_proj(i) for i in range(3)), view.lm_head]
    counts = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules]
    with attach(view, Everything()):
        assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules] != counts
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules] == counts
    assert not dispatch._active


def test_nested_attachments_restore_in_order() -> None:
    view, ids = tiny.view("mistral"), tiny.ids(80)
    dense = view.model(ids).logits
    with attach(view, POWER):
        outer = view.model(ids).logits
        with attach(view, SlidingWindow(block_size=4, window_blocks=2)):
            inner = view.model(ids).logits
        with attach(view, Idle()):  # what it does not touch belongs to the method around it
            assert torch.equal(view.model(ids).logits, outer)
        assert torch.equal(view.model(ids).logits, outer)
    assert torch.equal(view.model(ids).logits, dense)
    assert not torch.equal(outer, inner) and not torch.equal(outer, dense)


def test_two_models_may_carry_different_methods() -> None:
    one, two, ids = tiny.view("llama"), tiny.view("qwen3"), tiny.ids(80)
    with attach(one, POWER):
        alone = one.model(ids).logits
    with attach(one, POWER), attach(two, SlidingWindow(block_size=4, window_blocks=2)):
        two.model(ids)
        assert torch.equal(one.model(ids).logits, alone)


def test_usage_counts_and_resets() -> None:
    view, ids = tiny.view("llama"), tiny.ids(64)
    with attach(view, Quest(page=4, budget=12, dense_layers=1)) as attached:
        cache = view.model(ids, past_key_values=attached.new_cache(), use_cache=True).past_key_values
        prompt = attached.report()
        attached.reset()
        for token in tiny.ids(3)[0]:
            view.model(token[None, None], past_key_values=cache)
        steps = attached.report()
    assert prompt["density_prefill"] == 1 and prompt["density_decode"] is None and prompt["layers_touched"] == []
    assert prompt["pairs_visible"] == 3 * 4 * 64 * 65 // 2
    assert steps["pairs_visible"] == 3 * 4 * (65 + 66 + 67)
    assert steps["layers_touched"] == [1, 2] and steps["density_prefill"] is None
    assert 66 / 3 + 2 / 3 * 9 <= steps["keys_read"] <= 66 / 3 + 2 / 3 * 12  # one dense layer, two that read three pages
    assert steps["kv_tokens_kept"] == steps["kv_tokens_seen"] == 67


@dataclass(frozen=True, kw_only=True)
class Everything(Method):
    """One of each module hook, each easy to recognise in the output."""

    name = "everything"

    def heads(self, ctx: Call, z: Tensor) -> Tensor | None:
        return z.clone().index_fill_(2, torch.tensor([0]), 0.0) if ctx.layer == 1 else None

    def layer_out(self, ctx: Call, x: Tensor) -> Tensor | None:
        return x * 2 if ctx.layer == 2 else None

    def logits(self, ctx: Call, z: Tensor) -> Tensor | None:
        return z + ctx.q_offset


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_module_hooks_edit_heads_layers_and_logits(family: str) -> None:
    view, ids, seen = tiny.view(family), tiny.ids(20), {}
    handles = [
        view.o_proj(1).register_forward_hook(lambda m, args, out: seen.update(z=args[0])),
        view.layers[2].register_forward_hook(lambda m, args, out: seen.update(x=out)),
    ]
    plain = view.model(ids).logits
    x = seen["x"]
    for handle in handles:
        handle.remove()
    with attach(view, Everything()) as attached:
        handle = view.o_proj(1).register_forward_hook(lambda m, args, out: seen.update(z=args[0]))
        edited = view.model(ids).logits
        handle.remove()
        report = attached.report()
    width = seen["z"].shape[-1] // 4
    assert (seen["z"][..., :width] == 0).all() and (seen["z"][..., width:] != 0).any()
    assert report["layers_touched"] == [1, 2, 3] and report["density"] == 1
    assert not torch.equal(edited, plain) and x.shape == (1, 20, 64)
    assert torch.equal(view.model(ids).logits, plain)


def test_the_logits_hook_knows_the_true_offset() -> None:
    view, ids = tiny.view("llama"), tiny.ids(20)

    @dataclass(frozen=True, kw_only=True)
    class Offset(Method):
        name = "offset"

        def logits(self, ctx: Call, z: Tensor) -> Tensor:
            return torch.full_like(z, ctx.q_offset)

    with attach(view, Offset()):
        out = view.model(ids, use_cache=True)
        step = view.model(ids[:, :1], past_key_values=out.past_key_values)
    assert (out.logits == 0).all() and (step.logits == 20).all()


def test_a_prepared_mask_is_refused() -> None:
    view, ids = tiny.view("llama"), tiny.ids(20)
    with pytest.raises(UserError, match="2-D"), attach(view, POWER):
        view.model(ids, attention_mask=torch.ones(1, 1, 20, 20, dtype=torch.bool).tril())


def test_a_cache_that_forgets_is_refused_where_all_keys_are_needed() -> None:
    view, ids = tiny.view("mistral"), tiny.ids(60)
    with pytest.raises(UserError, match="new_cache"), attach(view, SnapKV(window=4, capacity=8)):
        view.model(ids, use_cache=True)


def test_a_static_cache_is_refused() -> None:
    view, ids = tiny.view("llama"), tiny.ids(20)
    cache = StaticCache(config=view.config, max_cache_len=64)
    with pytest.raises(UserError, match="static"), attach(view, POWER):
        view.model(ids, past_key_values=cache, use_cache=True)


def test_soft_capped_logits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    view = tiny.view("llama")
    monkeypatch.setattr(type(view), "softcap", property(lambda self: 50.0))
    with pytest.raises(UserError, match="soft-capped"), attach(view, POWER):
        pass
    assert view.attn_setting() == "sdpa"


def test_sink_logits_and_flex_are_refused_together() -> None:
    with pytest.raises(UserError, match="sink"), attach(tiny.view("gpt_oss"), POWER, "flex"):
        pass


def test_unknown_lowerings_and_layers_are_named() -> None:
    view = tiny.view("llama")
    with pytest.raises(UserError, match="gather"), attach(view, POWER, "gathr"):
        pass
    with pytest.raises(UserError, match="layer 7"), attach(view, PowerAttention(full_layers=(7,))):
        pass


def _pictured(text: str) -> Inputs:
    view = tiny_vlm.view("llava")
    return collate(view, [sample_of(view, Draft("a", text, (tiny_vlm.images(1)[0],)))])


def test_second_streams_are_let_go_when_the_next_batch_begins() -> None:
    """Not when the collector happens to run: it does not know how much memory of a device they hold."""
    view, asked = tiny_vlm.view("llava"), _pictured("Why?")
    gc.collect()
    gc.disable()
    try:
        with attach(view, ICD()) as attached:
            generate(view, asked.samples, [2], attached)
            cache = weakref.ref(attached.request.streams[0]._cache)
            attached.begin(asked)
            assert cache() is None
    finally:
        gc.enable()


@dataclass(frozen=True, kw_only=True)
class Shifted(Method):
    """Positions of its own."""

    name = "shifted"

    def begin(self, request: Request) -> dict[str, Tensor]:
        assert request.inputs.positions is not None
        return {"positions": request.inputs.positions + 3}


def test_the_request_holds_the_positions_that_the_method_wants() -> None:
    asked = _pictured("Why?")
    with attach(tiny_vlm.view("llava"), Shifted()) as attached:
        read = attached.begin(asked)
        assert attached.request.inputs is read
    assert read.positions is not None and asked.positions is not None
    assert torch.equal(read.positions, asked.positions + 3)
