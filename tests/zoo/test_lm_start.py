"""The structured start does what its docstring says before any training."""

import pytest
import torch
from transformers import LlamaForCausalLM

from zoo.recipes import lm_start

VOCAB, PERIOD = 512, 64


@pytest.fixture(scope="module")
def maps() -> tuple[torch.Tensor, ...]:
    """Attention [B, H, T, T] per layer on random text repeated once."""
    torch.manual_seed(0)
    model = lm_start.fresh(lm_start.config(VOCAB), seed=0).eval()
    model.set_attn_implementation("eager")
    half = torch.randint(3, VOCAB, (4, PERIOD))
    with torch.no_grad():
        return model(input_ids=torch.cat([half, half], 1), output_attentions=True).attentions


def share(attention: torch.Tensor, head: int, back: int) -> float:
    """Mean attention on the token ``back`` places back, over the second half of the text."""
    return float(torch.diagonal(attention[:, head], -back, 1, 2)[:, PERIOD:].mean())


def test_offset_heads_look_at_the_wanted_token(maps: tuple[torch.Tensor, ...]) -> None:
    heads = maps[0].shape[1]
    for layer in range(lm_start.OFFSET_LAYERS):
        for head in range(heads):
            assert share(maps[layer], head, layer * heads + head + 1) >= 0.95


def test_matching_heads_find_the_earlier_copy(maps: tuple[torch.Tensor, ...]) -> None:
    uniform = 1 / (1.5 * PERIOD)
    for layer, pairs in enumerate(lm_start.PAIRS, start=lm_start.OFFSET_LAYERS):
        for head, (here, there, *_) in enumerate(pairs):
            back = PERIOD + here - there
            found = float(torch.diagonal(maps[layer][:, head], -back, 1, 2)[:, 16:].mean())
            if here <= there:  # otherwise the same copy, a few tokens back, fits as well
                assert found > (20 if layer == lm_start.OFFSET_LAYERS else 4) * uniform


def test_the_cue_pair_finds_the_value_seven_tokens_after_its_key() -> None:
    """``k1 k2 x x v ... k1 k2 y y y y y y ?``: the key pair is 7 and 8 back here, 4 and 5 back at the value."""
    model = lm_start.fresh(lm_start.config(VOCAB), seed=0).eval()
    model.set_attn_implementation("eager")
    generator, found = torch.Generator().manual_seed(0), []
    head = lm_start.PAIRS[1].index((7, 4))
    for _ in range(32):
        ids = torch.randint(3, VOCAB, (1, 96), generator=generator)
        ids[0, 96 - 9 : 96 - 7] = ids[0, 20:22]
        with torch.no_grad():
            last = model(input_ids=ids, output_attentions=True).attentions[-1]
        found.append(float(last[0, head, -1, 25]))
    assert sum(found) / len(found) > 10 / 96


def test_the_same_seed_gives_the_same_weights() -> None:
    one, two, other = (lm_start.fresh(lm_start.config(VOCAB), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_logits_start_near_unit_scale_and_embeddings_are_tied() -> None:
    model: LlamaForCausalLM = lm_start.fresh(lm_start.config(VOCAB), seed=0)
    with torch.no_grad():
        logits = model(input_ids=torch.randint(3, VOCAB, (2, 32), generator=torch.Generator().manual_seed(0))).logits
    assert 0.5 < float(logits.std()) < 2.0
    assert model.lm_head.weight is model.model.embed_tokens.weight
