"""The measurement counts what its docstring says it counts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from harness.asking.transform import transformed
from harness.attention.attach import attach
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.efficiency import hardware, measure, memory
from harness.errors import UserError
from harness.models import inputs
from harness.models.inputs import sample_of
from harness.models.view import View
from methods.contrast.vcd import VCD
from methods.dense import Dense
from methods.inputs.carve import Carve
from tests import tiny_vlm
from tests.asking.own_cache import OwnCache
from tests.models import small

PROMPT = list(range(10, 74))


@pytest.fixture
def view() -> View:
    return small.view("llama")


def delay(monkeypatch: pytest.MonkeyPatch, prefill: float, decode: float) -> None:
    """A clock that moves only when the model runs: honest sums without waiting."""
    now = [0.0]
    real = measure._step

    def step(view: View, given: dict[str, Any], cache: Any) -> torch.Tensor:
        now[0] += prefill if given["input_ids"].shape[1] > 1 else decode
        return real(view, given, cache)

    monkeypatch.setattr(measure, "_step", step)
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])


def test_prefill_and_decode_are_timed_apart(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    delay(monkeypatch, prefill=0.05, decode=0.002)
    got = measure.measure(view, PROMPT, "quick", new_tokens=5)
    assert got["ttft_ms"] == pytest.approx({"median": 50, "q20": 50, "q80": 50, "n": 3})
    assert got["decode_ms_per_token"]["median"] == pytest.approx(2)
    assert got["decode_tokens_per_s"]["median"] == pytest.approx(500)


@pytest.mark.parametrize(("seconds", "n"), [(0.01, 3), (0.4, 2), (5.0, 1)])
def test_quick_repeats_less_when_a_request_is_slow(
    view: View, monkeypatch: pytest.MonkeyPatch, seconds: float, n: int
) -> None:
    delay(monkeypatch, prefill=seconds, decode=1e-6)
    assert measure.measure(view, PROMPT, "quick")["ttft_ms"]["n"] == n


def test_full_repeats_ten_times_after_two_warm_ups(view: View) -> None:
    begun: list[int] = []
    got = measure.measure(view, PROMPT, "full", new_tokens=2, attached=OwnCache(lambda: None, lambda: begun.append(1)))
    assert got["ttft_ms"]["n"] == got["decode_ms_per_token"]["n"] == 10 and len(begun) == 12


def test_work_before_the_prefill_belongs_to_the_first_token(view: View) -> None:
    got = measure.measure(
        view, PROMPT, "quick", new_tokens=1, attached=OwnCache(lambda: None, lambda: time.sleep(0.05))
    )
    assert got["ttft_ms"]["q20"] >= 50 > got["decode_ms_per_token"]["q80"]


@pytest.mark.parametrize("family", small.FAMILIES)
def test_tokens_fed_back_are_the_greedy_ones(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    view = small.view(family)
    fed: list[int] = []
    real = measure._step

    def step(view: View, given: dict[str, Any], cache: Any) -> torch.Tensor:
        token = real(view, given, cache)
        fed.append(int(token))
        return token

    monkeypatch.setattr(measure, "_step", step)
    measure.measure(view, PROMPT, "quick", new_tokens=4)
    ids = list(PROMPT)
    for _ in range(5):
        ids.append(int(view.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert fed[:5] == fed[-5:] == ids[-5:]


def test_result_is_plain_json_with_units_and_a_quick_one_is_quick(view: View) -> None:
    started = time.perf_counter()
    got = measure.measure(view, PROMPT, "quick")
    assert time.perf_counter() - started < 3
    assert json.loads(json.dumps(got)) == got
    assert (got["prompt_tokens"], got["new_tokens"], got["context_tokens"], got["batch"]) == (64, 8, 72, 1)
    assert (got["dtype"], got["backend"], got["device"]) == ("float32", "sdpa", "cpu")
    assert got["hardware"]["name"].startswith("cpu: ") and got["hardware"]["name"].endswith(" threads")
    assert got["kv_bytes_logical"] == got["kv_bytes_physical"] == 2 * 3 * 2 * 8 * 72 * 4
    for key in ("ttft_ms", "decode_ms_per_token", "decode_tokens_per_s"):
        assert 0 < got[key]["q20"] <= got[key]["median"] <= got[key]["q80"]


def test_a_compressed_cache_is_fed_true_positions_and_measured_as_it_is(view: View) -> None:
    positions: list[int] = []

    def compress(module: Any, args: Any, kwargs: Any, out: Any) -> None:
        positions.append(int(kwargs["position_ids"][0, -1]))
        for layer in out.past_key_values.layers:
            if layer.keys.shape[-2] == len(PROMPT):
                layer.keys, layer.values = layer.keys[:, :, :10].clone(), layer.values[:, :, :10].clone()

    view.model.register_forward_hook(compress, with_kwargs=True)
    got = measure.measure(
        view, PROMPT, "quick", new_tokens=3, attached=OwnCache(lambda: DynamicCache(config=view.config))
    )
    assert positions[:4] == [63, 64, 65, 66]
    assert got["kv_bytes_logical"] == got["kv_bytes_physical"] == 2 * 3 * 2 * 8 * 13 * 4


def test_a_cache_maker_may_leave_it_to_the_library(view: View) -> None:
    got = measure.measure(view, PROMPT, "quick", new_tokens=3, attached=OwnCache(lambda: None))
    assert got["kv_bytes_physical"] == 2 * 3 * 2 * 8 * 67 * 4


def test_a_request_that_does_not_fit_is_refused(view: View) -> None:
    with pytest.raises(UserError, match="512"):
        measure.measure(view, [5] * 512, "quick")


# ---- memory and hardware

CPU = torch.device("cpu")


def test_peak_memory_sees_what_was_freed_again() -> None:
    peak = memory.PeakMemory([CPU])
    block = torch.ones(64 << 20, dtype=torch.uint8)
    del block
    assert peak.kind in ("cpu peak rss", "cpu rss at end")
    if peak.kind == "cpu peak rss":
        assert peak.read() >= peak.before + (60 << 20)
        again = memory.PeakMemory([CPU])
        assert again.read() < peak.before + (60 << 20)


def test_without_a_high_water_mark_the_number_is_called_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path / "none")
    peak = memory.PeakMemory([CPU])
    assert peak.kind == "cpu rss at end" and peak.read() > 0


def test_cpu_name_without_cpuinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "none")
    assert hardware.cpu_name()
    (tmp_path / "some").write_text("processor : 0\nmodel name\t: Fast Chip 3000\n")
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "some")
    assert hardware.cpu_name() == "Fast Chip 3000"
    assert hardware.describe(CPU)["name"] == f"cpu: Fast Chip 3000 x {torch.get_num_threads()} threads"


# ---- pictures: second streams, transformed prompts, what the harness keeps


def pictured(method: Method, **more: Any) -> dict[str, Any]:
    view = tiny_vlm.view("llava")
    sample = sample_of(view, Draft("a", "Is there a dog?", (tiny_vlm.images(1)[0],), image_key="a"))
    with attach(view, method) as attached:
        return measure.measure(view, sample, "quick", attached, new_tokens=4, **more)


def test_bytes_are_of_all_caches_that_are_held() -> None:
    plain, two = pictured(Dense()), pictured(VCD())  # the second stream reads the same prompt behind a noisy picture
    assert two["kv_bytes_logical"] == 2 * plain["kv_bytes_logical"]
    assert two["kv_bytes_physical"] == 2 * plain["kv_bytes_physical"]


def test_prompt_tokens_and_bytes_are_those_of_the_transformed_prompt() -> None:
    view, method = tiny_vlm.view("llava"), Carve(mode="release")  # asks on the original picture and on the refined one
    plain = pictured(Dense())
    got = pictured(method, prepare=lambda s: transformed(view, method, s))
    assert got["prompt_tokens"] > plain["prompt_tokens"] + 14 and got["context_tokens"] == got["prompt_tokens"] + 4
    per_token = plain["kv_bytes_logical"] // plain["context_tokens"]
    assert got["kv_bytes_logical"] == got["kv_bytes_physical"] == per_token * got["context_tokens"]


def test_peak_memory_leaves_out_the_pictures_that_the_harness_keeps() -> None:
    kept = inputs.memory(tiny_vlm.view("llava"))
    before = pictured(Dense())
    kept.keep("many pictures", torch.ones(256 << 20, dtype=torch.uint8))
    try:
        after = pictured(Dense())
    finally:
        kept.clear()
    for key in ("peak_memory_bytes", "memory_before_bytes"):
        assert abs(after[key] - before[key]) < 100 << 20, key
