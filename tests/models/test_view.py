"""A view answers the same questions for every family, and its answers are what the model itself does."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from harness.errors import UserError
from harness.models.tokens import TextTokens
from harness.models.view import View
from tests.models import small

WINDOWS = {
    "gemma3_text": [8, None, 8], "gpt2": [None] * 3, "gpt_oss": [8, None, 8], "llama": [None] * 3, "mistral": [8] * 3,
    "phi3": [None] * 3, "qwen2": [None, None, 8], "qwen3": [None] * 3,
}  # fmt: skip
ROTARY = [name for name in small.FAMILIES if name != "gpt2"]


@pytest.mark.parametrize("family", small.FAMILIES)
def test_parts_and_sizes(family: str) -> None:
    view = small.view(family)
    assert (view.family, view.n_layers, view.n_heads) == (family, 3, 4)
    assert view.n_kv_heads == (4 if family == "gpt2" else 2)
    assert view.head_dim == (16 if family in ("gemma3_text", "gpt_oss", "qwen3") else 8)
    assert view.max_positions == 512 and view.dtype == torch.float32 and view.device.type == "cpu"
    assert [view.sliding_window(i) for i in range(3)] == WINDOWS[family]
    assert view.has_sinks == (family == "gpt_oss") and view.softcap is None
    assert (view.sinks(0) is not None) == view.has_sinks
    unique = {p.data_ptr(): p.numel() for p in view.model.parameters()}
    assert view.weight_bytes == 4 * sum(unique.values())


@pytest.mark.parametrize("family", small.FAMILIES)
def test_input_of_o_proj_is_the_heads_outputs(family: str) -> None:
    view = small.view(family)
    shapes = []
    for i in range(view.n_layers):
        view.o_proj(i).register_forward_pre_hook(lambda module, args: shapes.append(args[0].shape))
    view.model(input_ids=torch.arange(10)[None])
    assert shapes == [(1, 10, view.n_heads * view.head_dim)] * 3


def seen_by_attention(view: View, n: int) -> list[dict[str, Any]]:
    """The keyword arguments that each attention module receives in one forward pass over `n` tokens."""
    seen: list[dict[str, Any]] = []
    handles = [
        view.attention(i).register_forward_pre_hook(lambda m, args, kw: seen.append(kw), with_kwargs=True)
        for i in range(view.n_layers)
    ]
    view.model(input_ids=torch.arange(n)[None] % small.VOCAB)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("family", ROTARY)
def test_rope_is_what_the_layers_receive(family: str) -> None:
    view = small.view(family)
    for i, kwargs in enumerate(seen_by_attention(view, 30)):
        cos, sin = kwargs["position_embeddings"]
        ours = view.rope(i, torch.arange(30))
        assert ours is not None
        if family == "gpt_oss":  # half the columns; the halves are equal
            assert torch.equal(ours[0][:, 8:], cos[0]) and torch.equal(ours[1][:, 8:], sin[0])
        assert torch.equal(ours[0][:, : cos.shape[-1]], cos[0]) and torch.equal(ours[1][:, : sin.shape[-1]], sin[0])


def test_gemma_layers_turn_at_different_speeds() -> None:
    view = small.view("gemma3_text")
    sliding, full = view.rope(0, torch.arange(9)), view.rope(1, torch.arange(9))
    assert sliding is not None and full is not None
    assert not torch.allclose(sliding[0], full[0])


def test_partial_rotation_has_fewer_columns_and_gpt2_has_none() -> None:
    ours = small.view("phi3").rope(0, torch.tensor([3, 5]))
    assert ours is not None and ours[0].shape == (2, 4)
    assert small.view("gpt2").rope(0, torch.tensor([3, 5])) is None


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_asking_for_long_positions_does_not_change_the_model(kind: str) -> None:
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [3.0] * 4, "original_max_position_embeddings": 64}
    view = small.view("llama", rope_parameters=rope, max_position_embeddings=64)
    ids = torch.arange(20)[None]
    before = view.model(input_ids=ids).logits
    state = copy.deepcopy(view.model.model.rotary_emb.state_dict())
    near, far = view.rope(0, torch.arange(20)), view.rope(0, torch.arange(200))
    assert near is not None and far is not None and not torch.allclose(near[0], far[0][:20])
    assert torch.equal(view.model(input_ids=ids).logits, before)
    assert state.keys() == view.model.model.rotary_emb.state_dict().keys()
    for i, kwargs in enumerate(seen_by_attention(view, 200)):
        again = view.rope(i, torch.arange(200))
        assert again is not None and torch.equal(again[0], kwargs["position_embeddings"][0][0])


@pytest.mark.parametrize("family", ["mistral", "gemma3_text", "gpt_oss", "qwen2"])
def test_sliding_window_counts_the_keys_a_query_sees(family: str) -> None:
    """With one layer only, a token further back than the window cannot change the last logits; the next one can."""
    changes: dict[str, Any] = {"num_hidden_layers": 1, "sliding_window": 8}
    if family in ("gemma3_text", "gpt_oss"):
        changes["layer_types"] = ["sliding_attention"]
    if family == "qwen2":
        changes["max_window_layers"] = 0
    view = small.view(family, **changes)
    window = view.sliding_window(0)
    assert window is not None
    ids = torch.arange(10, 40)[None]
    base = view.model(input_ids=ids).logits[0, -1]
    for back, same in ((window, True), (window - 1, False)):
        changed = ids.clone()
        changed[0, -1 - back] = 99
        assert torch.equal(view.model(input_ids=changed).logits[0, -1], base) == same


def test_attention_function_can_be_switched_and_back() -> None:
    view = small.view("llama")
    ids = torch.arange(12)[None]
    first = view.model(input_ids=ids).logits
    view.set_attn("eager")
    assert view.attn_setting() == "eager"
    torch.testing.assert_close(view.model(input_ids=ids).logits, first, atol=1e-4, rtol=1e-4)
    view.set_attn("sdpa")
    assert view.attn_setting() == "sdpa" and torch.equal(view.model(input_ids=ids).logits, first)


def test_composite_model_is_seen_through_its_text_part() -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(text_config=dict(small.GEMMA), vision_config={**vision, "image_size": 28, "patch_size": 14})
    model: Any = Gemma3ForConditionalGeneration(config).eval()
    view = View.of(model, small.tokenizer())
    assert [view.sliding_window(i) for i in range(3)] == [8, None, 8]
    view.set_attn("eager")
    assert view.attn_setting() == "eager" and model.config.vision_config._attn_implementation == "sdpa"
    cos = seen_by_attention(view, 12)[1]["position_embeddings"][0]
    ours = view.rope(1, torch.arange(12))
    assert ours is not None and torch.equal(ours[0], cos[0])


def test_unknown_family_names_the_nearest_and_the_file() -> None:
    model = small.model("llama")
    model.config.model_type = "lama"
    with pytest.raises(UserError, match=r"did you mean 'llama'.*harness/models/families\.py"):
        View.of(model, small.tokenizer())


# ---- text


def test_plain_prompt_has_one_bos_no_eos_and_keeps_trailing_spaces() -> None:
    for closing in (False, True):
        tokens = TextTokens(small.tokenizer(closing=closing), name="t")
        ids = tokens.prompt_ids("ab ", "")
        assert ids[0] == small.BOS and ids.count(small.BOS) == 1 and small.EOS not in ids
        assert tokens.decode(ids) == "ab " and tokens.count("ab ") == 3
        assert tokens.prompt_ids("ab ", "c") == [*ids, *tokens.encode("c")]
    assert tokens.prompt_ids("", "") == [small.BOS]


def test_a_prompt_that_ends_with_an_eos_of_its_own_keeps_it() -> None:
    tokens = TextTokens(small.tokenizer(closing=True), name="t")
    assert tokens.prompt_ids("ab</s>")[-1] == small.EOS


def test_chat_prompt_has_the_templates_bos_once_and_ends_in_the_answer_prefix() -> None:
    tokens = TextTokens(small.tokenizer(chat=True), name="t")
    assert tokens.template == "chat"
    assert tokens.prompt_text("hi ", "It is") == "<s><user>hi \n<assistant>It is"
    ids = tokens.prompt_ids("hi ", "It is")
    assert ids.count(small.BOS) == 1 and tokens.decode(ids).endswith("<assistant>It is")
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"})
    assert tokens.prompt_text(messages) == "<s><system>Be brief.\n<user>hi\n<assistant>"
    direct = tokens.tokenizer.apply_chat_template(
        [dict(m) for m in messages], add_generation_prompt=True, tokenize=True
    )
    assert tokens.prompt_ids(messages) == list(direct["input_ids"])


def test_messages_without_a_template_become_a_plain_dialogue() -> None:
    tokens = TextTokens(small.tokenizer(chat=True), name="t", template="none")
    messages = (
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "why?"},
    )  # fmt: skip
    assert tokens.prompt_text(messages, " Because") == (
        "Be brief.\nUser: hi\nAssistant: Hello.\nUser: why?\nAssistant: Because"
    )


def test_template_must_exist_to_be_asked_for() -> None:
    with pytest.raises(UserError, match="no chat template"):
        TextTokens(small.tokenizer(), name="t", template="chat")
    with pytest.raises(UserError, match="Unknown template"):
        TextTokens(small.tokenizer(), name="t", template="chatty")


def test_stop_ids_join_generation_config_and_tokenizer() -> None:
    view = small.view("llama")
    view.model.generation_config.eos_token_id = [7, 5]
    assert view.stop_ids == [1, 5, 7] and view.pad_id == small.PAD


def test_too_long_is_said_with_numbers() -> None:
    view = small.view("llama")
    view.check_length(512)
    with pytest.raises(UserError, match=r"513 positions.*has 512"):
        view.check_length(513)
