"""Batched greedy generation equals generating alone, and says how much it kept in memory."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from transformers import DynamicCache, GenerationConfig

from harness.asking import cache_bytes
from harness.asking.generation import generate
from harness.errors import UserError
from harness.models.inputs import pad_left
from harness.models.view import View
from tests.asking.own_cache import OwnCache
from tests.models import small

PROMPTS = [list(range(5, 35)), [9, 8, 7, 6, 5], list(range(100, 117))]
LIMITS = [6, 9, 3]


def reference(view: View, prompt: list[int], limit: int) -> list[int]:
    """Greedy decoding without any cache, padding or library loop."""
    ids = list(prompt)
    for _ in range(limit):
        ids.append(int(view.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in view.stop_ids:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("family", small.FAMILIES)
def test_a_padded_batch_equals_single_requests_and_a_plain_loop(family: str) -> None:
    view = small.view(family)
    together = generate(view, PROMPTS, LIMITS)
    for prompt, limit, got in zip(PROMPTS, LIMITS, together, strict=True):
        alone = generate(view, [prompt], [limit])[0]
        assert list(got.ids) == list(alone.ids) == reference(view, prompt, limit)
        assert (got.text, got.finish, got.n_prompt, got.n_new) == (alone.text, alone.finish, len(prompt), len(got.ids))
        assert got.kv_bytes_logical == alone.kv_bytes_logical
        assert got.kv_bytes_physical >= got.kv_bytes_logical


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kv_bytes_follow_the_formula(family: str, dtype: torch.dtype) -> None:
    view = small.view(family)
    view.model.to(dtype)
    per_position = 2 * view.n_layers * view.n_kv_heads * view.head_dim * dtype.itemsize
    alone = generate(view, PROMPTS[:1], [4])[0]
    assert alone.kv_bytes_logical == alone.kv_bytes_physical == per_position * (30 + alone.n_new - 1)
    for got, prompt in zip(generate(view, PROMPTS, [4] * 3), PROMPTS, strict=True):
        assert got.kv_bytes_logical == per_position * (len(prompt) + got.n_new - 1)
        assert got.kv_bytes_physical == per_position * (30 + 3)


def test_sliding_layers_hold_less_than_they_have_read() -> None:
    view = small.view("mistral")  # window 8: a layer keeps 7 positions, in storage for 8
    alone = generate(view, PROMPTS[:1], [4])[0]
    per_position = 2 * view.n_layers * view.n_kv_heads * view.head_dim * 4
    assert (alone.kv_bytes_logical, alone.kv_bytes_physical) == (7 * per_position, 8 * per_position)


def stopping_view(stop: int) -> View:
    view = small.view("llama")
    view.model.generation_config.eos_token_id = [stop]
    return view


def test_a_row_ends_at_its_own_stop_id_and_the_others_go_on() -> None:
    free = generate(small.view("llama"), PROMPTS, [9, 9, 9])
    stop = next(t for t in free[1].ids if t not in (*free[0].ids, *free[2].ids))
    view = stopping_view(stop)
    got = generate(view, PROMPTS, [9, 9, 9])
    cut = free[1].ids.index(stop) + 1
    assert got[1].ids == free[1].ids[:cut] and got[1].finish == "stop"
    assert got[0].ids == free[0].ids and got[0].finish == "length"
    assert got[1].text == view.decode(free[1].ids[: cut - 1])
    per_position = 2 * view.n_layers * view.n_kv_heads * view.head_dim * 4
    assert got[1].kv_bytes_logical == per_position * (5 + cut - 1)


def test_the_prefill_computes_the_last_positions_logits_only() -> None:
    view, widths = small.view("llama"), []
    view.lm_head.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape[1]))
    generate(view, PROMPTS, [3, 3, 3])
    assert widths == [1, 1, 1]


def test_the_batch_ends_when_every_row_has_ended() -> None:
    view, passes = small.view("llama"), []
    view.lm_head.register_forward_pre_hook(lambda module, args: passes.append(1))
    generate(view, PROMPTS, [2, 5, 3])
    assert len(passes) == 5


def test_sampling_settings_of_the_checkpoint_do_nothing_and_stay(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = small.view("llama")
    plain = generate(view, PROMPTS, LIMITS)
    spicy: dict[str, Any] = {
        "do_sample": True, "temperature": 5.0, "top_k": 3, "top_p": 0.5, "repetition_penalty": 9.0,
        "min_new_tokens": 50, "suppress_tokens": list(plain[0].ids), "max_length": 7, "eos_token_id": 1,
    }  # fmt: skip
    view.model.generation_config = kept = GenerationConfig(**spicy)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        assert [g.ids for g in generate(view, PROMPTS, LIMITS)] == [g.ids for g in plain]
    assert view.model.generation_config is kept and not caplog.records


def test_the_generation_config_is_back_after_an_error() -> None:
    view = small.view("llama")
    kept = view.model.generation_config

    def fail(*args: Any) -> None:
        raise RuntimeError("stop here")

    view.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="stop here"):
        generate(view, PROMPTS, LIMITS)
    assert view.model.generation_config is kept


def test_a_tokenizer_without_pad_id_is_no_obstacle() -> None:
    view = small.view("llama")
    expected = [g.ids for g in generate(view, PROMPTS, LIMITS)]
    view.tokenizer.pad_token = None
    assert view.pad_id == small.EOS
    assert [g.ids for g in generate(view, PROMPTS, LIMITS)] == expected


def test_a_methods_cache_is_used_and_measured() -> None:
    view = small.view("llama")
    own = OwnCache(lambda: DynamicCache(config=view.config))
    got = generate(view, PROMPTS, LIMITS, own)
    assert [g.ids for g in got] == [g.ids for g in generate(view, PROMPTS, LIMITS)]
    assert len(own.made) == 1 and own.made[0].get_seq_length() == 30 + 9 - 1


def test_a_method_may_leave_the_cache_to_the_library() -> None:
    view = small.view("llama")
    assert generate(view, PROMPTS, LIMITS, OwnCache(lambda: None)) == generate(view, PROMPTS, LIMITS)


def test_tensors_beside_keys_and_values_count_but_indices_are_bookkeeping() -> None:
    view = small.view("llama")
    cache = DynamicCache(config=view.config)
    view.model(input_ids=torch.tensor(PROMPTS[:1]), past_key_values=cache)
    plain = cache_bytes.physical(cache)
    layer: Any = cache.layers[0]
    layer.state = {"pages": torch.zeros(2, 3), "shown": (torch.zeros(5),), "of keys": layer.keys[:, :, 2:]}
    layer.positions = torch.zeros(10, dtype=torch.int64)
    assert cache_bytes.physical(cache) == plain + 4 * 6 + 4 * 5 + 8 * 10
    view_bytes = layer.keys[:, :, 2:].numel() * 4
    assert cache_bytes.logical(cache, [30]) == [plain + 4 * 6 + 4 * 5 + view_bytes]


def test_a_compressed_cache_counts_what_it_holds() -> None:
    view = small.view("llama")

    def compress(module: Any, args: Any, kwargs: Any, out: Any) -> None:
        for layer in out.past_key_values.layers:
            if layer.keys.shape[-2] == 30:
                layer.keys, layer.values = layer.keys[:, :, :10].clone(), layer.values[:, :, :10].clone()

    view.model.register_forward_hook(compress, with_kwargs=True)
    got = generate(view, PROMPTS[:1], [4])[0]
    per_position = 2 * view.n_layers * view.n_kv_heads * view.head_dim * 4
    assert got.kv_bytes_logical == got.kv_bytes_physical == per_position * (10 + 3)


def test_a_request_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"513 positions"):
        generate(small.view("llama"), [[5] * 500], [13])


@pytest.mark.parametrize(("prompts", "limits"), [([], []), ([[1]], []), ([[]], [1]), ([[1]], [0])])
def test_nonsense_is_a_bug_of_the_caller(prompts: list[list[int]], limits: list[int]) -> None:
    with pytest.raises(ValueError, match="non-empty prompts"):
        generate(small.view("llama"), prompts, limits)


def test_pad_left() -> None:
    ids, mask = pad_left([[1, 2, 3], [4]], pad=9)
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4]] and mask.tolist() == [[1, 1, 1], [0, 0, 1]]
