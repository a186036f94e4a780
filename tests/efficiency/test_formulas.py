"""Operations, bytes and bounds by formula, against independent counts."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from harness.efficiency import formulas, machine
from harness.efficiency.crossing import crossing
from harness.efficiency.machine import Peaks
from harness.models.random_weights import RandomSpec
from tests.models import small


def counted(view, n, batch):
    """FLOPs that torch counts in a prefill and in one decode step. It does not know that half of the pairs are masked."""
    view.set_attn("eager")  # torch counts no fused attention on a CPU
    cache = DynamicCache(config=view.config)
    found = []
    for length in (n, 1):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            view.model(torch.randint(5, 200, (batch, length)), past_key_values=cache, logits_to_keep=1)
        found.append(counter.get_total_flops())
    return found


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3", "gpt2"])
def test_flops_are_those_of_torch_but_for_the_masked_pairs(family):
    view = small.view(family)
    n, batch = 24, 2
    prefill, step = counted(view, n, batch)
    d = formulas.dims(view)
    work = formulas.request(d, batch, n, 1)
    masked = batch * 4 * d.head_dim * d.heads * view.n_layers * (n * n - n * (n + 1) // 2)
    assert (work.flops_prefill + masked, work.flops_step) == (prefill, step)


def test_bytes_are_those_of_the_tensors():
    view = small.view("llama")
    n, steps = 24, 3
    work = formulas.request(formulas.dims(view), 2, n, steps)
    cache = DynamicCache(config=view.config)
    view.model(torch.randint(5, 200, (2, n)), past_key_values=cache)
    kv = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    used = [
        p for name, p in view.model.named_parameters() if "embed_tokens" not in name and name != "model.norm.weight"
    ]
    if view.lm_head.weight is view.model.get_input_embeddings().weight:
        used.append(view.lm_head.weight)
    weights = sum(p.numel() * p.element_size() for p in used)
    assert work.bytes_prefill == weights + kv
    assert work.bytes_step == weights + kv * (n + 2) / n  # n + 1, n + 2, n + 3 keys


def test_windows_and_densities_lower_the_work():
    d = formulas.dims(small.view("gemma3_text"))
    assert d.windows == (8, None, 8)
    full = formulas.request(d, 1, 64, 1)
    pairs = 4 * d.head_dim * d.heads
    expected = pairs * (2 * (36 + 56 * 8) + 64 * 65 // 2)
    assert full.flops_prefill - formulas.request(d, 1, 64, 1, density_prefill=0).flops_prefill == expected
    assert formulas.request(d, 1, 64, 1, density_decode=0.5).bytes_step < full.bytes_step


def test_a_mixture_of_experts_counts_the_experts_that_a_token_uses():
    view = small.view("gpt_oss")
    d = formulas.dims(view)
    every = sum(p.numel() for layer in view.layers for p in layer.parameters() if p.dim() > 1)
    experts = sum(
        p.numel() for layer in view.layers for name, p in layer.named_parameters() if "experts" in name and p.dim() > 1
    )
    assert d.layer_weights <= every - experts / 2


def test_the_bound_is_the_slower_of_computing_and_moving():
    peaks = Peaks(flops=100.0, bandwidth=10.0)
    assert peaks.bound(1000, 10) == 10 and peaks.bound(10, 1000) == 100


def test_peaks_are_measured(monkeypatch):
    monkeypatch.setattr(machine, "SIDE", {"cpu": 256})
    monkeypatch.setattr(machine, "BLOCK", {"cpu": 1 << 22})
    found = machine.peaks(torch.device("cpu"), torch.float32)
    assert 1e8 < found.flops < 1e14 and 1e8 < found.bandwidth < 1e13 and "float32 product of 256 x 256" in str(found)
    assert Peaks(5, 1, "a", "b").best(Peaks(3, 4, "c", "d")) == Peaks(5, 4, "a", "d")


# ---- shapes


@pytest.mark.parametrize(
    ("shape", "n"),
    [
        ("llama-3.1-8b", 8_030_261_248), ("llama-3.2-1b", 1_235_814_400), ("qwen3-8b", 8_190_735_360),
        ("mistral-7b", 7_241_732_096),
    ],
)  # fmt: skip
def test_shapes_have_their_published_number_of_parameters(shape, n):
    assert RandomSpec(shape=shape).skeleton().model.num_parameters() == n


def test_random_weights_are_ordinary_numbers_and_repeat():
    spec = RandomSpec(shape="tiny", layers=1, device="cpu")
    one, two = spec.load(), spec.load()
    assert one.n_layers == 1 and one.name == "tiny (random weights, 1 of 2 layers)"
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))
    assert 0.01 < one.lm_head.weight.std() < 0.05 and one.model(torch.arange(9)[None]).logits.isfinite().all()
    with pytest.raises(Exception, match="no tokenizer"):
        one.encode("text")


@pytest.mark.parametrize("family", small.FAMILIES)
def test_any_folder_with_a_config_is_a_shape(family, tmp_path):
    model = small.model(family)
    model.config.save_pretrained(tmp_path)
    backend = "eager" if family == "gpt_oss" else "sdpa"
    spec = RandomSpec(shape=str(tmp_path), layers=2, device="cpu", backend=backend)
    spec.validate()
    view = spec.load()
    assert view.n_layers == 2 and spec.all_layers == 3
    assert RandomSpec(shape=str(tmp_path), backend=backend).skeleton().model.num_parameters() == sum(
        p.numel() for p in model.parameters()
    )


def test_what_does_not_fit_is_said_before_it_is_made(monkeypatch):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("M", (), {"available": 8 << 30}))
    with pytest.raises(Exception, match=r"29\.9 GiB.*bench\.layers=4 would fit"):
        RandomSpec(shape="llama-3.1-8b", device="cpu", dtype="float32").load()


# ---- efficiency length


def ratio(median, half=0.05, n=10):
    return {"median": median, "q20": median - half, "q80": median + half, "n": n}


@pytest.mark.parametrize(
    ("ratios", "length", "above"),
    [
        ({256: 1.5, 512: 1.1, 1024: 0.9, 2048: 0.5}, 1024, 512),
        ({256: 0.8, 512: 0.7}, 256, None),
        ({256: 1.5, 512: 1.2}, None, 512),
        ({256: 0.8, 512: 1.1, 1024: 0.7}, 1024, 512),  # it must stay faster
        ({256: 1.5, 512: 0.97, 1024: 0.9}, 1024, 512),  # the whole range must lie below 1
        ({256: 0.5, 512: 0.5, 1024: 1.2}, None, 1024),
        ({1024: 0.9, 256: 1.5}, 1024, 256),  # in any order
    ],
)
def test_efficiency_length(ratios, length, above):
    found = crossing({n: ratio(r) for n, r in ratios.items()})
    assert (found.length, found.above) == (length, above)


def test_lengths_without_a_fair_comparison_decide_nothing():
    found = crossing({256: ratio(1.5), 512: None, 1024: ratio(0.5), 2048: ratio(1.3, n=1)})
    assert (found.length, found.above, found.tested) == (1024, 256, (256, 1024))
    assert str(crossing({512: None})) == "undecided" and crossing({}).length is None
    assert str(found) == "1024, in (256, 1024] (fewer than 5 rounds at 2048)"
    assert str(crossing({512: ratio(0.5)})) == "512 (the shortest measured, so at most that)"
    assert str(crossing({512: ratio(2.0)})) == "not reached up to 512"
    assert crossing({256: ratio(0.5), 512: ratio(0.5)}, never={256}).above == 256
