"""SnapKV, H2O and StreamingLLM against explicit float64 formulas, written here a second time and slowly."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from harness.attention.attach import attach
from harness.attention.cache import TrackedLayer
from harness.contracts.call import Call
from harness.errors import UserError
from methods.cache.h2o import HeavyHitters, tokens
from methods.cache.snapkv import SnapKV
from methods.cache.streaming_kv import StreamingKV
from tests import tiny

N, D = 40, 8
NO_SINKS = SimpleNamespace(sinks=lambda layer: None)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def call(q: Tensor, n_k: int, state: dict | None = None, positions: Tensor | None = None) -> Call:
    """A prompt or a decode step whose last query is at the newest key; plain causal."""
    n_q = q.shape[2]
    known = torch.arange(n_k)[None, None] if positions is None else positions
    last = int(known.max())
    rows = torch.arange(last - n_q + 1, last + 1)
    return Call(
        view=NO_SINKS, layer=0, phase="prefill", q_offset=last + 1 - n_q, n_pad=torch.zeros(1, dtype=torch.long),  # type: ignore[arg-type]
        scaling=D**-0.5, q=q, state={} if state is None else state,
        visible=lambda part: rows[part][None, None, :, None] >= known[:, :, None, :],
    )  # fmt: skip


def attention(q: Tensor, k: Tensor) -> Tensor:
    """Full causal weights `[B, H, n, n]`, one row at a time."""
    weights = torch.zeros(*q.shape[:2], q.shape[2], k.shape[2], dtype=torch.float64)
    for h in range(q.shape[1]):
        for i in range(q.shape[2]):
            scores = k[0, h // 2, : i + 1] @ q[0, h, i] * D**-0.5
            weights[0, h, i, : i + 1] = scores.exp() / scores.exp().sum()
    return weights


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("share", ["group", "per_head"])
def test_snapkv_keeps_what_the_window_voted_for(pool: str, share: str) -> None:
    q, k, window, capacity, kernel = random(1, 4, N, D), random(1, 2, N, D, seed=1), 6, 15, 5
    weights = attention(q, k)
    votes = torch.zeros(4, N - window, dtype=torch.float64)
    for h in range(4):
        raw = [float(weights[0, h, N - window :, j].sum()) for j in range(N - window)]
        for j in range(N - window):
            near = [raw[x] if 0 <= x < len(raw) else 0.0 for x in range(j - kernel // 2, j + kernel // 2 + 1)]
            votes[h, j] = sum(near) / kernel if pool == "avg" else max(near)
    if share == "group":
        votes = votes.view(2, 2, -1).mean(1)
    method = SnapKV(window=window, capacity=capacity, kernel=kernel, pool=pool, share=share)  # type: ignore[arg-type]
    ctx, layer = call(q, N), SimpleNamespace(keys=k)
    kept = method.edit_cache(ctx, layer)
    if share == "per_head":
        assert kept is None
        kept = method.select(ctx, q[:, :, -1:], torch.cat((k, k[:, :, :2]), dim=2))
        assert kept is not None and kept[0, :, -2:].tolist() == [[N, N + 1]] * 4  # decode keys are always read
        kept = kept[:, :, :-2]
    assert kept is not None
    for row, vote in zip(kept[0].tolist(), votes, strict=True):
        best = sorted(vote.topk(capacity - window).indices.tolist())
        assert row == best + list(range(N - window, N))


def test_snapkv_leaves_short_prompts_and_decode_alone() -> None:
    q, k = random(1, 4, N, D), random(1, 2, N, D)
    method = SnapKV(window=4, capacity=N)
    assert method.edit_cache(call(q, N), SimpleNamespace(keys=k)) is None
    assert SnapKV(window=4, capacity=8).edit_cache(call(q[:, :, -1:], N), SimpleNamespace(keys=k)) is None


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt_oss"])
def test_snapkv_positions_go_on_after_compression(family: str) -> None:
    view, ids = tiny.view(family), tiny.ids(60)
    with torch.no_grad(), attach(view, SnapKV(window=4, capacity=12)) as attached:
        out = view.model.generate(
            ids, max_new_tokens=5, min_new_tokens=5, do_sample=False, past_key_values=attached.new_cache(),
            return_dict_in_generate=True,
        )  # fmt: skip
    for layer in out.past_key_values.layers:
        assert layer.positions.shape == (1, 2, 16) and layer.get_seq_length() == 64
        assert layer.positions[0, 0, -8:].tolist() == list(range(56, 64))


def test_h2o_accumulates_causally_and_really_drops() -> None:
    """Prompt of 40, then 6 steps: the same keys survive as in a simulation that keeps everything and masks."""
    heavy, recent, steps = 7, 5, 6
    q, k = random(1, 4, N + steps, D), random(1, 2, N + steps, D, seed=1)
    method, layer, state = HeavyHitters(heavy=heavy, recent=recent), TrackedLayer(), {}
    alive = [list(range(N)), list(range(N))]
    scores = [torch.zeros(N + steps, dtype=torch.float64) for _ in range(2)]
    prompt = attention(q[:, :, :N], k[:, :, :N])
    for t in range(N - 1, N + steps):
        first = t == N - 1
        rows = slice(0, N) if first else slice(t, t + 1)
        layer.update(k[:, :, rows], k[:, :, rows])
        ctx = call(q[:, :, rows], layer.keys.shape[2], state, layer.positions)  # type: ignore[union-attr]
        kept = method.edit_cache(ctx, layer)
        assert kept is not None
        layer.keep(kept)
        for g in range(2):
            if not first:
                alive[g].append(t)
            for h in (2 * g, 2 * g + 1):
                if first:
                    scores[g][:N] += prompt[0, h].sum(0)
                else:
                    scores[g][alive[g]] += (k[0, g, alive[g]] @ q[0, h, t] * D**-0.5).softmax(0)
            older = alive[g][:-recent]
            best = sorted(older, key=lambda j: -float(scores[g][j]))[:heavy]
            alive[g] = sorted(best) + alive[g][-recent:]
            assert layer.positions is not None and layer.positions[0, g].tolist() == alive[g]
            torch.testing.assert_close(state["scores", 1][0, g].double(), scores[g][alive[g]], rtol=1e-5, atol=1e-6)


def test_h2o_sizes_are_shares_below_one_and_tokens_from_one_on() -> None:
    assert HeavyHitters().sizes(250) == (25, 25)
    assert HeavyHitters(heavy=64, recent=0.5).sizes(250) == (64, 125)
    assert tokens(0.001, 10) == 1


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3"])
def test_streaming_kv_equals_rotating_unrotated_keys_by_their_place_in_the_cache(family: str) -> None:
    """The paper's form, recomputed: take keys before rotation, rotate each by its index in the cache, the query by the
    last.
    """
    view, ids, sinks, recent, seen = tiny.view(family), tiny.ids(60), 3, 9, {}
    method = StreamingKV(sinks=sinks, recent=recent)

    def rotate(x: Tensor, positions: Tensor) -> Tensor:
        cos, sin = (part.double() for part in view.rope(0, positions))  # type: ignore[union-attr]
        return x * cos + torch.cat((-x[..., 8:], x[..., :8]), dim=-1) * sin

    with torch.no_grad(), attach(view, method) as attached:
        cache = view.model(ids[:, :50], past_key_values=attached.new_cache(), use_cache=True).past_key_values
        full = view.model(ids, use_cache=False, output_hidden_states=False).logits  # a prefill stays dense
        for t in range(50, 60):
            handle = view.o_proj(0).register_forward_hook(lambda m, args, out: seen.update(z=args[0]))
            view.model(ids[:, t : t + 1], past_key_values=cache)
            handle.remove()
    assert torch.equal(full, view.model(ids).logits)
    z, kept = seen["z"][0, 0].double().view(4, 16), [*range(sinks), *range(59 - recent, 60)]
    with torch.no_grad():
        plain = view.model(ids, use_cache=True).past_key_values.layers[
            0
        ]  # layer 0 keys depend on token and position only
        queries = _queries(view, ids)
    back = -torch.arange(60)
    keys = rotate(plain.keys.double(), back)  # R(-j) R(j) k: as before rotation
    places = torch.arange(len(kept))
    rotated = rotate(keys[:, :, kept], places)
    query = rotate(rotate(queries.double(), torch.tensor([-59])), places[-1:])
    for h in range(4):
        weights = (rotated[0, h // 2] @ query[0, h, 0] * 16**-0.5).softmax(0)
        expected = weights @ plain.values[0, h // 2, kept].double()
        torch.testing.assert_close(z[h], expected, rtol=2e-4, atol=2e-5)


def _queries(view, ids: Tensor) -> Tensor:
    """Rotated queries `[1, H, 1, D]` of the last token in layer 0, caught at the attention function."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    caught = {}

    def spy(module, q, k, v, mask, **kwargs):
        if module.layer_idx == 0:
            caught["q"] = q[:, :, -1:]
        return sdpa_attention_forward(module, q, k, v, mask, **kwargs)

    AttentionInterface.register("heed_test_spy", spy)
    AttentionMaskInterface.register("heed_test_spy", sdpa_mask)
    view.set_attn("heed_test_spy")
    try:
        view.model(ids)
    finally:
        view.set_attn("sdpa")
    return caught["q"]


def test_streaming_kv_refuses_models_whose_positions_do_not_rotate() -> None:
    with pytest.raises(UserError, match="not rotary"), attach(tiny.view("gpt2"), StreamingKV()):
        pass
    scaled = tiny.fresh_view("llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
    with pytest.raises(UserError, match="'dynamic'"), attach(scaled, StreamingKV()):
        pass
