"""`heed bench` end to end on small things, and its parts on numbers made by hand."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.attention.lowering.tiles import pairs
from harness.cli import main
from harness.config.compose import compose, expand_random
from harness.efficiency import bench, bound, machine, rounds
from harness.efficiency.bench_settings import BenchSettings
from harness.efficiency.machine import Peaks
from harness.efficiency.subjects import AttentionAlone, Took, WholeModel
from harness.errors import Unsupported, UserError
from harness.records.bench import BenchRecord
from harness.report import bench_files, bench_table
from harness.terminal.printing import Terminal
from methods.cache.snapkv import SnapKV
from methods.contrast.dola import DoLa
from methods.contrast.vcd import VCD
from methods.dense import Dense
from methods.patterns.power import PowerAttention
from methods.selection.quest import Quest
from tests.models import small

PEAKS = Peaks(1e9, 1e9, "a product", "a copy")
POWER = PowerAttention(block_size=8, window_blocks=2, sink_blocks=1)


@pytest.fixture(autouse=True)
def quick_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SIDE", {"cpu": 128, "cuda": 128})
    monkeypatch.setattr(machine, "BLOCK", {"cpu": 1 << 20, "cuda": 1 << 20})


def points_of(subject: Any, settings: BenchSettings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    bench.measure(subject, subject.methods, settings, keep=found.append)
    return found


# ---- rounds


def took(first: float = 1.0, **usage: Any) -> Took:
    return Took(first, first / 10, usage=usage)


def test_methods_take_turns_and_the_order_is_turned_round() -> None:
    order: list[str] = []

    def run(label: str, watch: bool) -> Took:
        order.append(label + "w" * watch)
        return took()

    rounds.alternate(["dense", "a", "b"], run, repeats=3, budget_s=100)
    assert order[:6] == ["densew", "densew", "aw", "aw", "bw", "bw"]
    assert order[6:] == ["dense", "a", "b", "b", "a", "dense", "dense", "a", "b"]


def test_a_drift_of_the_machine_does_not_reach_the_ratio() -> None:
    slow = iter(range(1, 100))
    series = rounds.alternate(["dense", "a"], lambda label, watch: took(next(slow) // 2 + 1.0), 8, 100)
    first = {k: [t.first for t in one.rounds] for k, one in series.items()}
    assert max(first["dense"]) > 2 * min(first["dense"])
    found = rounds.ratio(first["a"], first["dense"])
    assert found is not None and found["n"] == 8 and found["median"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unsupported("not this model"), "refused"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (MemoryError(), "out of memory"),
    ],
)
@pytest.mark.parametrize("at", [1, 4])
def test_one_that_fails_says_why_and_the_others_go_on(error: Exception, status: str, at: int) -> None:
    calls = [0]

    def run(label: str, watch: bool) -> Took:
        calls[0] += label == "a"
        if label == "a" and calls[0] == at:
            raise error
        return took()

    series = rounds.alternate(["dense", "a", "b"], run, 4, 100)
    assert series["a"].left is not None and series["a"].left[0] == status and not series["a"].rounds
    assert [len(series[k].rounds) for k in ("dense", "b")] == [4, 4]


def test_a_bug_is_not_taken_for_a_lack_of_memory() -> None:
    def run(label: str, watch: bool) -> Took:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        rounds.alternate(["dense"], run, 1, 1)


def test_the_budget_ends_the_rounds_and_leaves_out_what_is_too_slow() -> None:
    def run(label: str, watch: bool) -> Took:
        time.sleep(0.06 if label == "slow" else 0.005)
        return took()

    series = rounds.alternate(["dense", "slow"], run, 1000, 0.05)
    assert series["slow"].left is not None and "budget_s is 0.05" in series["slow"].left[1]
    assert 1 <= len(series["dense"].rounds) < 50


def test_simulated_is_not_timed() -> None:
    series = rounds.alternate(["dense", "a"], lambda label, w: took(simulated=label == "a"), 3, 100)
    assert series["a"].left is not None and series["a"].left[0] == "simulated" and not series["a"].rounds


# ---- whole model


def test_points_hold_all_that_is_promised_and_the_model_is_left_alone() -> None:
    view = small.view("llama")
    ids = torch.arange(3, 40)[None]
    before = view.model(ids).logits
    methods = {"dense": Dense(), "power": POWER, "quest": Quest(page=4, budget=16, dense_layers=1)}
    subject = WholeModel(view, methods, "auto", steps=2, seed=0)
    found = points_of(subject, BenchSettings(lengths=(64, 96), batches=(1, 3), new_tokens=2, repeats=2))
    assert torch.equal(view.model(ids).logits, before)
    assert [(p["length"], p["batch"]) for p in found] == [(64, 1), (96, 1), (64, 3), (96, 3)]
    assert json.loads(json.dumps(found)) == found
    dense, power, quest = found[3]["rows"]
    assert {r["status"] for r in found[3]["rows"]} == {"done"} and "ratio_ttft" not in dense
    assert dense["kv_bytes_logical"] == dense["kv_bytes_physical"] == 3 * 98 * 2 * 3 * 2 * 8 * 4
    assert power["density_prefill"] == pytest.approx(pairs(POWER.blocks(), 96) / (96 * 97 // 2))
    assert power["flops_prefill"] < dense["flops_prefill"] and quest["bytes_step"] < dense["bytes_step"]
    for row in (power, quest):
        assert row["ratio_ttft"]["n"] == row["ttft_ms"]["n"] == 2
        assert row["ratio_decode"]["q20"] <= row["ratio_decode"]["median"] <= row["ratio_decode"]["q80"]
        bounds = bound.bounds(row, vars(PEAKS))
        assert bounds["of_bound_ttft_ms"] == pytest.approx(row["flops_prefill"] / 1e6 / row["ttft_ms"]["median"])
        assert bounds["bound_decode_ms_per_token"] == pytest.approx(max(row["flops_step"], row["bytes_step"]) / 1e6)


def test_what_cannot_be_done_stands_in_its_row() -> None:
    view = small.view("llama")
    subject = WholeModel(view, {"dense": Dense(), "vcd": VCD(), "power": POWER}, "auto", 2, 0)
    found = points_of(subject, BenchSettings(lengths=(32, 511), new_tokens=2, repeats=1))
    rows = {(p["length"], r["method"]): r for p in found for r in p["rows"]}
    assert rows[32, "vcd"]["status"] == "refused" and "pictures" in rows[32, "vcd"]["reason"]
    assert rows[32, "power"]["status"] == "done"
    assert {r["status"] for r in found[1]["rows"]} == {"refused"} and "513 positions" in rows[511, "dense"]["reason"]


def test_a_method_over_budget_is_not_tried_again_at_longer_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, str]] = []
    subject = WholeModel(small.view("llama"), {"dense": Dense(), "power": POWER}, "auto", 1, 0)

    def request(label: str, watch: bool = False) -> Took:
        tried.append((len(subject.samples[0]), label))
        time.sleep(0.03 if label == "power" else 0)
        return took()

    monkeypatch.setattr(subject, "request", request)
    found = points_of(subject, BenchSettings(lengths=(16, 32), new_tokens=1, repeats=1, budget_s=0.02))
    assert [r["status"] for p in found for r in p["rows"]] == ["done", "over budget"] * 2
    assert (32, "power") not in tried and "16 tokens" in found[1]["rows"][1]["reason"]


def test_the_dense_lowering_is_simulated_and_has_no_speed() -> None:
    subject = WholeModel(small.view("llama"), {"dense": Dense(), "power": POWER}, "dense", 1, 0)
    (point,) = points_of(subject, BenchSettings(lengths=(64,), new_tokens=1, repeats=1))
    power = point["rows"][1]
    assert power["status"] == "simulated" and not {"ttft_ms", "ratio_ttft"} & set(power)
    assert bench_table.efficiency_lengths([point]) == {}


# ---- the attention function alone


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "qwen2", "gemma3_text"])
def test_attention_alone_reads_what_the_pattern_says(family: str) -> None:
    view = small.view(family)
    subject = AttentionAlone(view, {"dense": Dense(), "power": POWER}, "auto", 2, 0, torch.device("cpu"))
    (point,) = points_of(subject, BenchSettings(kind="attention", lengths=(96,), batches=(2,), new_tokens=2, repeats=2))
    dense, power = point["rows"]
    assert (dense["status"], power["status"]) == ("done", "done") and power["lists_ms"]["n"] == 2
    if subject.window is None:
        assert power["density_prefill"] == pytest.approx(pairs(POWER.blocks(), 96) / (96 * 97 // 2))
        heads, kv, d = view.n_heads, view.n_kv_heads, view.head_dim
        assert dense["flops_prefill"] == 2 * 4 * d * heads * 96 * 97 // 2
        assert dense["kv_bytes_logical"] == dense["kv_bytes_physical"] == 2 * 98 * 2 * kv * d * 4
        assert dense["bytes_prefill"] == 2 * 96 * 4 * d * (2 * heads + 2 * kv)
    else:
        assert 0 < power["density_prefill"] <= 1


def test_attention_alone_serves_selection_and_compression_and_refuses_what_works_elsewhere() -> None:
    methods = {
        "dense": Dense(), "quest": Quest(page=4, budget=16, dense_layers=1), "snapkv": SnapKV(window=8, capacity=32),
        "dola": DoLa(),
    }  # fmt: skip
    subject = AttentionAlone(small.view("llama"), methods, "auto", 2, 0, torch.device("cpu"))
    assert list(subject.refusals()) == ["dola"] and "bench.kind=model" in subject.refusals()["dola"]
    (point,) = points_of(subject, BenchSettings(kind="attention", lengths=(96,), new_tokens=2, repeats=1))
    dense, quest, snapkv, _ = point["rows"]
    assert [r["status"] for r in point["rows"]] == ["done", "done", "done", "refused"]
    assert quest["density_decode"] < 0.3 and snapkv["kv_bytes_logical"] < dense["kv_bytes_logical"] / 2


def test_attention_alone_is_the_attention_of_the_model() -> None:
    view = small.view("llama")
    subject = AttentionAlone(view, {"dense": Dense(), "power": POWER}, "auto", 1, 0, torch.device("cpu"))
    subject.at(64, 1)
    q, k, v = (x[:, :, :64] for x in subject.qkv)
    seen = []
    real = subject.view.attention(subject.layer)

    import harness.efficiency.subjects as subjects

    function = subjects.ALL_ATTENTION_FUNCTIONS["sdpa"]
    subjects.ALL_ATTENTION_FUNCTIONS.register("sdpa", lambda *a, **kw: seen.append(function(*a, **kw)) or seen[-1])
    try:
        subject.request("dense")
    finally:
        subjects.ALL_ATTENTION_FUNCTIONS.register("sdpa", function)
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=real.scaling)
    assert torch.allclose(seen[0][0].transpose(1, 2), expected, atol=1e-6)


def test_sink_logits_are_not_left_out_silently() -> None:
    with pytest.raises(UserError, match="sink"):
        AttentionAlone(small.view("gpt_oss"), {"dense": Dense()}, "auto", 1, 0, torch.device("cpu"))


# ---- records, table, files


def spread(median: float, n: int = 10) -> dict[str, Any]:
    return {"median": median, "q20": median * 0.95, "q80": median * 1.05, "n": n}


def content() -> dict[str, Any]:
    """A record with a method that is faster from 1024 on, one that is simulated, one that is refused."""
    points = []
    for n in (512, 1024, 2048):
        work = {"flops_prefill": 5e5 * n, "flops_step": 1e6, "bytes_prefill": 1e6, "bytes_step": 2e6}
        seen = {
            "peak_memory_bytes": 2**30, "memory_before_bytes": 2**29, "memory_grown_bytes": 2**29, "note": "", "reason": "",
            "memory_kind": "cpu peak rss", "kv_bytes_logical": 4096, "kv_bytes_physical": 8192, "simulated": False,
            "density_prefill": 0.5, "density_decode": 0.25, "prefill_is_dense": False, **work,
        }  # fmt: skip
        times = {"status": "done"}
        dense = seen | times | {"method": "dense", "ttft_ms": spread(n), "decode_ms_per_token": spread(10)}
        fast = seen | times | {"method": "fast", "ttft_ms": spread(512 + n / 4), "decode_ms_per_token": spread(12)}
        fast |= {"ratio_ttft": spread(512 / n + 0.25), "ratio_decode": spread(1.2)}
        mask = seen | {"method": "mask", "status": "simulated", "reason": "a mask", "simulated": True}
        no = {"method": "no", "status": "refused", "reason": "not\x1b[31m here", "note": "", "prefill_is_dense": False}
        points.append({"length": n, "batch": 1, "rows": [dense, fast, mask, no]})
    run = {"points": points, "hardware": {"name": "cpu: X"}, "peaks": vars(PEAKS), "finished": "now"}
    shown = {"model": "m", "dtype": "float32", "methods": {"fast": "blocks=1"}}
    return {"about": {"kind": "model"}, "shown": shown, "runs": [run]}


def test_the_table_is_made_from_what_was_stored(capsys: pytest.CaptureFixture[str]) -> None:
    bench_table.render(content(), Terminal(width=80))
    text = capsys.readouterr().out
    assert text.replace("\u241b", "").isascii() and max(map(len, text.splitlines())) <= 80 and "\x1b" not in text
    assert "fast: TTFT 1024, in (512, 1024]; decode not reached up to 2048" in text
    assert "mask: TTFT" not in text and text.count("simulated") >= 3
    assert "no refused: not\u241b[31m here" in text and "fast: blocks=1" in text
    row = next(line for line in text.splitlines() if line.startswith("  2048"))
    assert row.split() == ["2048", "dense", "2048", "-", "10", "-", "50", "%"]


def test_an_unsteady_machine_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    busy = content()
    busy["runs"][0]["points"][1]["rows"][0]["ttft_ms"] |= {"q80": 3000.0}
    bench_table.render(busy, Terminal(width=200))
    assert (
        "unsteady machine: dense's own times vary (80 % / 20 % quantile) at 1024 x 1 (3.1)" in capsys.readouterr().out
    )


def test_csv_and_curves(tmp_path: Path) -> None:
    record = tmp_path / "x.json"
    table, picture = bench_files.write(content(), record)
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 12 and rows[1]["ratio_ttft_median"] == "1.25" and rows[3]["ttft_ms_median"] == ""
    assert picture.read_bytes().startswith(b"\x89PNG")
    nothing = content()
    for point in nothing["runs"][0]["points"]:
        point["rows"] = point["rows"][3:]
    assert bench_files.png(nothing) is None


def test_a_prefill_that_is_dense_cannot_be_faster_and_an_idle_method_cannot_either() -> None:
    same, idle = content(), content()
    for p in same["runs"][0]["points"]:
        p["rows"][1] |= {"prefill_is_dense": True}
    found = bench_table.efficiency_lengths(same["runs"][0]["points"])
    assert found["fast"]["ratio_ttft"].length is None
    for p in idle["runs"][0]["points"][:2]:
        p["rows"][1] |= {"note": "reads all"}
    found = bench_table.efficiency_lengths(idle["runs"][0]["points"])
    assert (found["fast"]["ratio_ttft"].length, found["fast"]["ratio_ttft"].above) == (2048, 1024)


def test_a_record_grows_and_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    def opened(model: str = "a") -> BenchRecord:
        return BenchRecord(tmp_path, {"model": model}, {"model": model})

    record = opened()
    assert not record.begin({}, PEAKS, {})
    record.keep({"length": 8, "batch": 1, "rows": []}, Peaks(1, 2e9, "", "faster"))
    assert record.run["peaks"] == vars(Peaks(1e9, 2e9, "a product", "faster"))
    again = opened()  # as after a kill
    assert again.begin({}, PEAKS, {}) and again.has(8, 1) and not again.has(16, 1)
    assert not opened().begin({"repeats": 3}, PEAKS, {})  # another question starts anew
    again.finish()
    third = opened()
    assert not third.begin({}, PEAKS, {}) and not third.has(8, 1)
    third.finish()
    assert len(opened().content["runs"]) == 2 and opened().content["runs"][0] == again.run
    assert opened("b").path != record.path
    record.path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        opened()


# ---- the command


def heed(tmp_path: Path, *overrides: str) -> int:
    return main(["bench", *overrides, f"results={tmp_path}", "bench.repeats=2", "bench.new_tokens=2"])


def test_end_to_end_on_the_zoo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("model=micro-lm", "model.micro-lm.device=cpu", "method=[power,quest]", "bench.lengths=[96,160]")
    assert heed(tmp_path, *given) == 0
    text = capsys.readouterr().out
    assert "micro-lm: whole requests, float32, cpu: " in text and "undecided" in text
    assert "power: block_size=16" in text
    (record,) = (tmp_path / "bench").glob("*.json")
    assert record.with_suffix(".png").exists() and record.with_suffix(".csv").exists()
    stored = json.loads(record.read_text())
    assert [r["method"] for r in stored["runs"][0]["points"][1]["rows"]] == ["dense", "power", "quest"]
    assert stored["runs"][0]["finished"] and str(tmp_path) not in record.read_text()


@pytest.mark.slow
def test_end_to_end_on_random_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("model.random=tiny", "bench.layers=1", "method=[power]", "bench.lengths=[64]", "bench.batches=[1,2]")
    assert heed(tmp_path, *args) == 0 and heed(tmp_path, *args) == 0
    assert "tiny (random weights, 1 of 2 layers)" in capsys.readouterr().out
    (record,) = (tmp_path / "bench").glob("*.json")
    stored = json.loads(record.read_text())
    assert (
        stored["shown"]["model"] == "tiny (random weights, 1 of 2 layers)" and stored["about"]["model"]["layers"] == 1
    )
    assert len(stored["runs"]) == 2


def test_attention_of_a_large_shape_needs_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("model.random=llama-3.1-8b", "bench.kind=attention", "method=[power,streaming_kv]", "bench.lengths=[128]")
    assert heed(tmp_path, *args) == 0
    assert "one layer's attention function alone" in capsys.readouterr().out


def test_beyond_the_positions_of_the_model_nothing_is_measured(tmp_path: Path, capsys: Any) -> None:
    assert heed(tmp_path, "model.random=tiny", "bench.lengths=[9000]") == 2
    assert "9002 positions are needed" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["bench.lengths=[]"], "names nothing to measure"),
        (["bench.lengths=[0]"], "bench.lengths=[0] is out of range"),
        (["bench.lengths=[-5,8]"], "bench.lengths=[-5, 8] is out of range"),
        (["bench.lengths=[1.5]"], "1.5 is no whole number"),
        (["bench.lengths=[long]"], "'long' is no whole number"),
        (["bench.batches=[0]"], "bench.batches=[0] is out of range"),
        (["bench.new_tokens=0"], "bench.new_tokens=0 is out of range"),
        (["bench.repeats=0"], "bench.repeats=0 is out of range"),
        (["bench.budget_s=0"], "bench.budget_s"),
        (["bench.kind=atention"], "did you mean 'attention'"),
        (["bench.lenghts=[8]"], "did you mean 'lengths'"),
        (["model.random=llama-3.1-8"], "did you mean 'llama-3.1-8b'"),
        (["model.random="], "names no shape"),
        (["model.random=tiny", "model=micro-lm"], "both given"),
        (["model.random=tiny", "bench.layers=3"], "between 1 and 2"),
        (["model.random=tiny", "bench.dtype=float23"], "did you mean 'float32'"),
        (["bench.layers=2"], "model.random"),
        (["method=[vcd]"], "vcd: Method 'vcd' works on pictures"),
        (["baseline=false", "method=[power]"], "baseline=false"),
    ],
)
def test_a_mistake_is_one_paragraph(
    overrides: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *overrides, f"results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and "Traceback" not in error
    assert not list(tmp_path.rglob("*.json"))


def test_a_mistake_is_answered_without_torch() -> None:
    code = "import sys; from harness.cli import main; c = main(); sys.exit(99 if 'torch' in sys.modules else c)"
    for override in ("bench.lengths=[0]", "model.random=tinny", "method=[pwer]"):
        assert subprocess.run([sys.executable, "-c", code, "bench", override], capture_output=True).returncode == 2


def test_random_weights_are_for_the_bench(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "model.random=tiny"]) == 2 and "heed bench model.random=tiny" in capsys.readouterr().err
    cfg = compose(expand_random(["model.random=[tiny,qwen3-8b]", "bench.layers=1"]))
    assert list(cfg.model) == ["random-tiny", "random-qwen3-8b"] and cfg.model["random-tiny"].layers == 1
